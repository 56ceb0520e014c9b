package plans_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// sink is a webhook's receiver, which believes nobody without a signature.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	bodies   []string
	unsigned int
}

const webhookSecret = "between the two of us"

func newSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(s.take))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || !signed(r.Header.Get("Borgfleet-Signature"), body) {
		s.unsigned++
		w.WriteHeader(http.StatusForbidden)
		return
	}
	s.bodies = append(s.bodies, string(body))
}

// signed checks a signature of the form t=…,v1=….
func signed(header string, body []byte) bool {
	at, rest, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	_, _ = fmt.Fprintf(mac, "%s.%s", at, body)
	return hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(rest))
}

// await waits for a message that has all the words.
func (s *sink) await(t *testing.T, words ...string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("a message with %q", words), func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.unsigned > 0 {
			t.Fatalf("%d messages without a signature", s.unsigned)
		}
		for _, body := range s.bodies {
			if containsAll(body, words) && json.Valid([]byte(body)) {
				return nil
			}
		}
		return fmt.Errorf("there are %q", s.bodies)
	})
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// TestNoBackupIsAnEvent has a host go away while its plan expects backups: that is
// told, and told again when it is over.
func TestNoBackupIsAnEvent(t *testing.T) {
	t.Parallel()
	w, told := newWorld(t, "", "web1"), newSink(t)
	secretFile, urlFile := w.write("hook.secret", webhookSecret+"\n"), w.write("hook.url", told.URL+"/hook\n")
	w.apply(w.daily("max_age: 2h") + fmt.Sprintf(`
notify:
  targets:
    ops: {kind: webhook, url_file: %s, secret_file: %s}
  rules:
    all: {targets: [ops], severity: warning, group: 1s}
`, urlFile, secretFile))
	w.c.Init("web1", "main")
	w.toTheHour()
	w.awaitRuns("small", 1)
	w.awaitAlerts("small")
	if code := w.agents["web1"].Terminate(t); code != 0 {
		t.Fatalf("the agent ended with %d", code)
	}
	for range 4 {
		w.toTheHour()
	}
	harness.Eventually(t, "the plan to be overdue", func() error {
		if state := w.fresh("small"); state != "overdue" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	told.await(t, "overdue", "small", "web1")
	if out := w.c.MustCLI("status"); !strings.Contains(out, "overdue") {
		t.Errorf("status says nothing of it:\n%s", out)
	}
	if out := w.c.MustCLI("alert", "list"); !containsAll(out, []string{"overdue", "small", "web1"}) {
		t.Errorf("alert list says nothing of it:\n%s", out)
	}
	w.agents["web1"].Restart()
	harness.Eventually(t, "the plan to be fresh again", func() error {
		if state := w.fresh("small"); state != "fresh" {
			return fmt.Errorf("it is %s: %s", state, show(w.runs("small")))
		}
		return nil
	})
	w.awaitAlerts("small")
	told.await(t, "resolved", "overdue", "small")
	if archives := harness.Archives(t, filepath.Join(w.dir, "main"), "correct horse of main"); len(archives) != 2 {
		t.Errorf("one backup before and one after it was away: there are %v", archives)
	}
}

// TestUnlikeTheOthers has a backup that lost nearly all of its files: nothing is
// pruned until somebody has accepted it.
func TestUnlikeTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", "web1")
	tree := filepath.Join(w.dir, "tree")
	harness.MakeTree(t, tree, 300, 1<<10)
	w.apply(strings.Replace(w.daily("retention: {keep_last: 1}\n    after: [prune]"), "/etc/hostname", tree, 1))
	w.c.Init("web1", "main")
	const usual = 9
	for n := 1; n <= usual; n++ {
		w.toTheHour()
		w.awaitRuns("small", n)
	}
	if out := harness.Run(t, nil, "find", tree, "-name", "f000*", "-delete"); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if out := harness.Run(t, nil, "find", tree, "-name", "f001*", "-delete"); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	w.toTheHour()
	last := w.awaitRuns("small", usual+1)[usual]
	if last.kinds()["backup"] != 1 || last.kinds()["prune"] != 0 {
		t.Fatalf("after a backup with a third of the files: %s", show(last))
	}
	w.awaitAlerts("small", "suspicious web1")
	archives := func() int { return len(harness.Archives(t, filepath.Join(w.dir, "main"), "correct horse of main")) }
	if n := archives(); n != 2 {
		t.Errorf("there are %d archives, want the last usual one and the other", n)
	}
	w.c.MustCLI("plan", "accept", "small", "--host", "web1", "--repo", "main", "--reason", "the tree was cleaned up")
	w.awaitAlerts("small")
	w.toTheHour()
	w.awaitRuns("small", usual+2)
	if n := archives(); n != 1 {
		t.Errorf("after it was accepted, there are %d archives, want 1", n)
	}
}
