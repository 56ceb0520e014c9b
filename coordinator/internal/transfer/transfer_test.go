package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func noise(length int) []byte {
	data := make([]byte, length)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data) // never fails
	return data
}

// ofWhole prints data and ends the job well at its end.
func (w *world) ofWhole(data []byte, failure *job.Failure) {
	w.print = func(context.Context) io.Reader {
		return io.MultiReader(bytes.NewReader(data), endReader(func() { go w.finish(failure) }))
	}
}

// endReader is at its end, and tells.
type endReader func()

func (tell endReader) Read([]byte) (int, error) {
	tell()
	return 0, io.EOF
}

func TestADownloadIsWhole(t *testing.T) {
	for name, length := range map[string]int{"nothing": 0, "a byte": 1, "a chunk": 128 << 10, "more": 1<<20 + 4711} {
		t.Run(name, func(t *testing.T) {
			w, data := newWorld(), noise(length)
			w.ofWhole(data, nil)
			go w.untilSubmitted(t, w.run)
			download, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1", Path: "etc"})
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(download.Content, data); err != nil {
				t.Error(err)
			}
			if err := download.Content.Close(); err != nil || w.isCancelled() {
				t.Errorf("closed with %v; cancelled: %t", err, w.isCancelled())
			}
			if download.Job != id || download.Host != "web1" || download.Size >= 0 || download.Name != "etc.tar" {
				t.Errorf("download %+v", download)
			}
		})
	}
}

func TestWhatIsLeftOpenIsChosen(t *testing.T) {
	online := func(names ...string) (hosts []fleet.HostView) {
		for _, name := range names {
			hosts = append(hosts, fleet.HostView{Host: fleet.Host{Name: strings.TrimPrefix(name, "-")}, Online: !strings.HasPrefix(name, "-")})
		}
		return hosts
	}
	file := map[string]fleet.File{
		"etc/hosts": {Path: "etc/hosts", Type: fleet.RegularFile, Size: 3}, "etc": {Path: "etc", Type: fleet.Directory},
		"etc/same": {Path: "etc/same", Type: fleet.HardLink, Target: "etc/hosts"},
	}
	ofWeb1 := map[string]fleet.Archive{"a1": {Host: "web1"}}
	for name, c := range map[string]struct {
		hosts    []fleet.HostView
		archives map[string]fleet.Archive
		files    map[string]fleet.File
		ask      fleet.DownloadRequest
		want     fleet.Download
		spec     string
	}{
		"a listed file":       {online("web1"), nil, file, fleet.DownloadRequest{Path: "etc/hosts"}, fleet.Download{Format: job.DownloadFile, Name: "hosts", Size: 3}, `{"archive":"a1","path":"etc/hosts","format":"file"}`},
		"a further name":      {online("web1"), nil, file, fleet.DownloadRequest{Path: "etc/same"}, fleet.Download{Format: job.DownloadFile, Name: "same", Size: 3}, `{"archive":"a1","path":"etc/hosts","format":"file"}`},
		"a range of it":       {online("web1"), nil, file, fleet.DownloadRequest{Path: "etc/hosts", Range: 2}, fleet.Download{Format: job.DownloadFile, Name: "hosts", Size: 3, Offset: 2}, `{"archive":"a1","path":"etc/hosts","format":"file"}`},
		"a range of a tar":    {online("web1"), nil, file, fleet.DownloadRequest{Range: 2}, fleet.Download{Format: job.DownloadTar, Name: "a1.tar", Size: -1}, `{"archive":"a1","format":"tar"}`},
		"as one writes it":    {online("web1"), nil, file, fleet.DownloadRequest{Path: "/etc/hosts"}, fleet.Download{Format: job.DownloadFile, Name: "hosts", Size: 3}, `{"archive":"a1","path":"etc/hosts","format":"file"}`},
		"a listed directory":  {online("web1"), nil, file, fleet.DownloadRequest{Path: "etc/"}, fleet.Download{Format: job.DownloadTar, Name: "etc.tar", Size: -1}, `{"archive":"a1","path":"etc","format":"tar"}`},
		"everything":          {online("web1"), nil, file, fleet.DownloadRequest{}, fleet.Download{Format: job.DownloadTar, Name: "a1.tar", Size: -1}, `{"archive":"a1","format":"tar"}`},
		"a file as a tar":     {online("web1"), nil, file, fleet.DownloadRequest{Path: "etc/hosts", Format: fleet.DownloadTarZst}, fleet.Download{Format: fleet.DownloadTarZst, Name: "hosts.tar.zst", Size: -1}, `{"archive":"a1","path":"etc/hosts","format":"tar"}`},
		"not listed":          {online("web1"), nil, nil, fleet.DownloadRequest{Path: "etc/hosts"}, fleet.Download{Format: job.DownloadTar, Name: "hosts.tar", Size: -1}, `{"archive":"a1","path":"etc/hosts","format":"tar"}`},
		"not listed, a file":  {online("web1"), nil, nil, fleet.DownloadRequest{Path: "etc/hosts", Format: job.DownloadFile}, fleet.Download{Format: job.DownloadFile, Name: "hosts", Size: -1}, `{"archive":"a1","path":"etc/hosts","format":"file"}`},
		"the host that made":  {online("db1", "web1"), ofWeb1, nil, fleet.DownloadRequest{}, fleet.Download{Format: job.DownloadTar, Name: "a1.tar", Size: -1}, `{"archive":"a1","format":"tar"}`},
		"the only host, away": {online("-web1"), ofWeb1, nil, fleet.DownloadRequest{}, fleet.Download{Format: job.DownloadTar, Name: "a1.tar", Size: -1}, `{"archive":"a1","format":"tar"}`},
		"the host asked for":  {online("db1", "web1", "web2"), map[string]fleet.Archive{"a1": {Host: "db1"}}, nil, fleet.DownloadRequest{Host: "web1"}, fleet.Download{Format: job.DownloadTar, Name: "a1.tar", Size: -1}, `{"archive":"a1","format":"tar"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.hosts, w.files, w.archives = c.hosts, c.files, c.archives
			w.ofWhole([]byte("abc"), nil)
			c.ask.Repository, c.ask.Archive = "main", "a1"
			go w.untilSubmitted(t, w.run)
			got, err := w.service(t).Open(t.Context(), alice, c.ask)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Content.Close()
			want := c.want
			want.Job, want.Host, want.Content = id, "web1", got.Content
			if *got != want {
				t.Errorf("download %+v; want %+v", *got, want)
			}
			if diff := cmp.Diff(job.Request{Host: "web1", Kind: job.Download, Repository: "main", Spec: []byte(c.spec), MaxAttempts: 1}, w.asked); diff != "" {
				t.Errorf("job (-want +got):\n%s", diff)
			}
		})
	}
}

// Of what is not listed, nothing may be a link as well as an empty file.
func TestNothingIsNoAnswerUnlessItIsKnown(t *testing.T) {
	for name, listed := range map[string]map[string]fleet.File{
		"listed": {"etc/empty": {Path: "etc/empty", Type: fleet.RegularFile}}, "not listed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.files = listed
			w.ofWhole(nil, nil)
			go w.untilSubmitted(t, w.run)
			download, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1", Path: "etc/empty", Format: job.DownloadFile})
			if listed == nil {
				if f := job.AsFailure(err); err == nil || f.Code != job.NotListed || !strings.Contains(f.Hint, "--format tar") {
					t.Errorf("refused with %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(download.Content, nil); err != nil || download.Size != 0 {
				t.Errorf("%+v: %v", download, err)
			}
			if err := download.Content.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	hosts := []fleet.HostView{{Host: fleet.Host{Name: "db1"}, Online: true}, {Host: fleet.Host{Name: "web1"}}, {Host: fleet.Host{Name: "web2"}, Online: true}}
	for name, c := range map[string]struct {
		ask  fleet.DownloadRequest
		code job.Code
		says string
	}{
		"which host":              {fleet.DownloadRequest{Path: "etc"}, job.InvalidRequest, "db1, web1, web2"},
		"a host that is away":     {fleet.DownloadRequest{Archive: "ofWeb1", Path: "etc"}, job.InvalidRequest, "db1, web1, web2"},
		"unknown repository":      {fleet.DownloadRequest{Repository: "other"}, job.UnknownRepository, "other"},
		"no such path":            {fleet.DownloadRequest{Path: "srv"}, job.PathMissing, "srv"},
		"a directory as a file":   {fleet.DownloadRequest{Path: "etc", Format: job.DownloadFile}, job.InvalidRequest, "no regular file"},
		"a symbolic link":         {fleet.DownloadRequest{Path: "etc/soft", Format: job.DownloadFile}, job.InvalidRequest, "link to ../hosts"},
		"no such format":          {fleet.DownloadRequest{Format: "zip"}, job.InvalidRequest, "tar.zst"},
		"negative offset":         {fleet.DownloadRequest{Offset: -1}, job.InvalidRequest, "negative"},
		"offset into compressed":  {fleet.DownloadRequest{Format: fleet.DownloadTarZst, Offset: 1}, job.InvalidRequest, "continued"},
		"offset beyond the end":   {fleet.DownloadRequest{Path: "etc/hosts", Offset: 4}, job.InvalidRequest, "3 bytes"},
		"range beyond the end":    {fleet.DownloadRequest{Path: "etc/hosts", Range: 3}, job.InvalidRequest, "3 bytes"},
		"refused at submission":   {fleet.DownloadRequest{Host: "web1"}, job.NotAllowed, "operator"},
		"refused, all is decided": {fleet.DownloadRequest{Host: "web1", Path: "etc/hosts", Offset: 3}, job.NotAllowed, "operator"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.hosts, w.archives = hosts, map[string]fleet.Archive{"ofWeb1": {Host: "web1"}}
			w.files = map[string]fleet.File{"etc": {Path: "etc", Type: fleet.Directory}, "etc/hosts": {Type: fleet.RegularFile, Size: 3}, "etc/soft": {Path: "etc/soft", Type: fleet.SymLink, Target: "../hosts"}}
			w.refuse = job.Fail(job.NotAllowed, "this needs the role operator")
			if c.ask.Repository == "" {
				c.ask.Repository = "main"
			}
			if c.ask.Archive == "" {
				c.ask.Archive = "a1"
			}
			service := w.service(t)
			for range 3 { // each gives its place back
				_, err := service.Open(t.Context(), alice, c.ask)
				if failure := job.AsFailure(err); failure == nil || failure.Code != c.code || !strings.Contains(failure.Error(), c.says) {
					t.Errorf("refused with %v; want %s that says %q", err, c.code, c.says)
				}
			}
		})
	}
}

func TestWhatGoesWrongBeforeTheFirstByteIsTheJobsFailure(t *testing.T) {
	wrong := job.Fail(job.PassphraseWrong, "the passphrase is wrong")
	for name, c := range map[string]struct {
		play  func(*world)
		print func(*world, context.Context) io.Reader
	}{
		"before it runs":     {func(w *world) { w.finish(wrong) }, nil},
		"with empty output":  {(*world).run, func(w *world, _ context.Context) io.Reader { return endReader(func() { go w.finish(wrong) }) }},
		"while it is silent": {func(w *world) { w.run(); w.finish(wrong) }, func(_ *world, ctx context.Context) io.Reader { return ctxReader{ctx} }},
		"after a few bytes": {(*world).run, func(w *world, _ context.Context) io.Reader {
			return io.MultiReader(strings.NewReader("a tar of nothing"), endReader(func() { go w.finish(wrong) }))
		}},
		"output is lost": {(*world).run, func(w *world, _ context.Context) io.Reader {
			go w.finish(wrong)
			return errorReader{job.Fail(job.ConnectionLost, "gone")}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.print = func(ctx context.Context) io.Reader { return c.print(w, ctx) }
			go w.untilSubmitted(t, func() { c.play(w) })
			_, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1"})
			if job.AsFailure(err).Code != job.PassphraseWrong || w.isCancelled() {
				t.Errorf("ended with %v; cancelled: %t", err, w.isCancelled())
			}
		})
	}
}

// TestTheEndIsKeptBack: whoever counts bytes, and nothing else, must not take a
// download for whole whose job failed.
func TestTheEndIsKeptBack(t *testing.T) {
	w, data := newWorld(), noise(1<<20)
	w.ofWhole(data, job.Fail(job.IntegrityError, "a chunk is damaged"))
	go w.untilSubmitted(t, w.run)
	download, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	defer download.Content.Close()
	got, err := io.ReadAll(download.Content)
	if job.AsFailure(err).Code != job.IntegrityError || len(got) == 0 || len(got) >= len(data) {
		t.Errorf("%d of %d bytes, then %v", len(got), len(data), err)
	}
}

func TestOffsetLeavesOutTheBeginning(t *testing.T) {
	data := noise(1 << 20)
	for _, offset := range []int{0, 1, 128 << 10, 500_000, len(data) - 1, len(data), len(data) + 1} {
		w := newWorld()
		w.ofWhole(data, nil)
		go w.untilSubmitted(t, w.run)
		download, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1", Offset: int64(offset)})
		if offset > len(data) {
			if job.AsFailure(err).Code != job.InvalidRequest {
				t.Errorf("beyond the end: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(download.Content)
		if err = errors.Join(err, download.Content.Close()); err != nil || !bytes.Equal(got, data[offset:]) {
			t.Errorf("from %d: %d bytes (%v)", offset, len(got), err)
		}
	}
}

func TestCompression(t *testing.T) {
	data := bytes.Repeat([]byte("the same again and again, "), 100_000)
	w := newWorld()
	w.ofWhole(data, nil)
	go w.untilSubmitted(t, w.run)
	download, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1", Format: fleet.DownloadTarZst})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := io.ReadAll(download.Content)
	if err = errors.Join(err, download.Content.Close()); err != nil || len(packed) > len(data)/100 {
		t.Fatalf("%d bytes of %d (%v)", len(packed), len(data), err)
	}
	reader, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if got, err := io.ReadAll(reader); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
}

func TestACompressedDownloadFailsToo(t *testing.T) {
	w := newWorld()
	w.ofWhole(noise(1<<20), job.Fail(job.IntegrityError, "a chunk is damaged"))
	go w.untilSubmitted(t, w.run)
	download, err := w.service(t).Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1", Format: fleet.DownloadTarZst})
	if err != nil {
		t.Fatal(err)
	}
	defer download.Content.Close()
	if _, err := io.Copy(io.Discard, download.Content); job.AsFailure(err).Code != job.IntegrityError {
		t.Errorf("ended with %v", err)
	}
}

// TestWhoGoesAwayCancelsTheJob, wherever it is, and gives the place back.
func TestWhoGoesAwayCancelsTheJob(t *testing.T) {
	endless := func(ctx context.Context) io.Reader {
		return io.MultiReader(bytes.NewReader(noise(1<<20)), ctxReader{ctx})
	}
	for name, format := range map[string]job.DownloadFormat{"plain": job.DownloadTar, "compressed": fleet.DownloadTarZst} {
		t.Run("closes, "+name, func(t *testing.T) {
			w := newWorld()
			w.print = endless
			service := w.service(t)
			go w.untilSubmitted(t, w.run)
			download, err := service.Open(t.Context(), alice, fleet.DownloadRequest{Repository: "main", Archive: "a1", Format: format})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(download.Content, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := download.Content.Close(); err != nil || !w.isCancelled() {
					t.Errorf("closed with %v; cancelled: %t", err, w.isCancelled())
				}
			}
		})
	}
	for name, play := range map[string]func(*world){"waits": func(*world) {}, "waits for bytes": (*world).run} {
		t.Run("leaves while it "+name, func(t *testing.T) {
			w := newWorld()
			w.print = func(ctx context.Context) io.Reader { return ctxReader{ctx} }
			ctx, cancel := context.WithCancel(t.Context())
			go w.untilSubmitted(t, func() { play(w); cancel() })
			if _, err := w.service(t).Open(ctx, alice, fleet.DownloadRequest{Repository: "main", Archive: "a1"}); !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			if !w.isCancelled() {
				t.Error("the job goes on")
			}
		})
	}
}

func TestDownloadsAreBounded(t *testing.T) {
	w := newWorld()
	w.print = func(ctx context.Context) io.Reader { return strings.NewReader(strings.Repeat("x", 1<<20)) }
	service := w.service(t)
	go w.untilSubmitted(t, w.run)
	ask := fleet.DownloadRequest{Repository: "main", Archive: "a1"}
	first, err := service.Open(t.Context(), alice, ask)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := service.Open(ctx, alice, ask) // waits for its job, which is queued
		second <- err
	}()
	<-w.submitted // it has its place
	if _, err := service.Open(t.Context(), alice, ask); job.AsFailure(err).Code != job.Unavailable {
		t.Errorf("the third of two: %v", err)
	}
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
	if err := first.Content.Close(); err != nil {
		t.Error(err)
	}
	w.finish(nil)
	if n := w.feed.Watchers(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

// What the coordinator keeps itself, it reads itself, unless a host is named.
func TestDownloadFromTheDepot(t *testing.T) {
	for name, test := range map[string]struct {
		kept  bool
		fault error
		asked string
		want  string
	}{
		"nobody is named":       {true, nil, "", ""},
		"a host is named":       {true, nil, "web1", "web1"},
		"it is kept elsewhere":  {false, nil, "", "web1"},
		"where cannot be found": {false, errors.New("disk full"), "", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			s := w.service(t)
			s.InDepot = func(string) (bool, error) { return test.kept, test.fault }
			w.refuse, w.asked.Host = job.Fail(job.NotAllowed, "not now"), "none"
			_, err := s.Open(t.Context(), fleet.Actor{}, fleet.DownloadRequest{Repository: "main", Archive: "a1", Host: test.asked})
			if err == nil || w.asked.Host != test.want {
				t.Errorf("host %q was asked, %v; want %q", w.asked.Host, err, test.want)
			}
		})
	}
}
