package dispatch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of the logs on disk and of one answer.
const (
	maxLogBytes      = 32 << 20  // one job's log, uncompressed; ten attempts of a bounded agent fit
	maxLogReplyBytes = 384 << 10 // text in one answer, so that it fits a bus message
)

// logBlock is one line of a log file: the lines of one log event. A whole
// event in one line makes a torn write harmless: the line cannot be decoded,
// and the event comes again.
type logBlock struct {
	Attempt int           `json:"attempt"`
	Seq     int           `json:"seq"`
	Omitted int           `json:"omitted,omitempty"`
	Lines   []job.LogLine `json:"lines"`
}

// jobLogs keeps the logs of jobs in files: plain while the job is open,
// compressed afterwards, and plain again should the job be open again, as the
// store was put back to an older copy. Repeated events are appended again and
// dropped when the log is read. Nothing is synced before compression: a power cut may cost
// the last lines here, which the host still has. It is safe for concurrent use.
type jobLogs struct {
	dir string
	mu  sync.Mutex // one writer
}

// path spreads logs over directories by the random end of the id.
func (l *jobLogs) path(id job.ID) string {
	return filepath.Join(l.dir, strings.ToLower(string(id[len(id)-2:])), string(id)+".jsonl")
}

// append adds the lines of an event. Lines beyond the bound are left out
// silently: the agent bounds what it sends, so only a hostile one gets there.
func (l *jobLogs) append(event job.Event) error {
	for i := range event.Lines {
		if len(event.Lines[i].Text) > job.MaxLogLineBytes {
			event.Lines[i].Text = strings.ToValidUTF8(event.Lines[i].Text[:job.MaxLogLineBytes], "")
		}
	}
	data, err := json.Marshal(logBlock{Attempt: event.Attempt, Seq: event.Seq, Omitted: event.Omitted, Lines: event.Lines})
	if err != nil {
		return fmt.Errorf("encode log of job %s: %w", event.Job, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	path := l.path(event.Job)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	if err := l.unpack(event.Job); err != nil {
		return fmt.Errorf("unpack log %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer file.Close() // a write error is reported by Write; nothing is buffered here
	size, torn, err := tail(file)
	if err != nil {
		return fmt.Errorf("look at log %s: %w", path, err)
	}
	if size+int64(len(data)) > maxLogBytes {
		return nil
	}
	if torn {
		data = append([]byte("\n"), data...)
	}
	if _, err := file.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("write log %s: %w", path, err)
	}
	return nil
}

// unpack makes the plain log of what was compressed, unless there is one already.
func (l *jobLogs) unpack(id job.ID) error {
	path := l.path(id)
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	packed, err := l.open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer packed.Close() // read only
	plain, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer plain.Cleanup() // does nothing after the replacement
	if _, err := io.Copy(plain, io.LimitReader(packed, maxLogBytes)); err != nil {
		return err
	}
	return plain.CloseAtomicallyReplace()
}

// tail returns a file's size and whether its last line is unfinished.
func tail(file *os.File) (size int64, torn bool, err error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, false, err
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil {
		return 0, false, err
	}
	return info.Size(), last[0] != '\n', nil
}

// read returns lines from place after on, as many as fit an answer. Complete
// says only that the end of the file was reached.
func (l *jobLogs) read(id job.ID, after int) (fleet.JobLog, error) {
	log := fleet.JobLog{Lines: []fleet.LogEntry{}, Next: max(0, after)}
	source, err := l.open(id)
	if errors.Is(err, fs.ErrNotExist) {
		log.Complete = true
		return log, nil
	}
	if err != nil {
		return log, fmt.Errorf("open log of job %s: %w", id, err)
	}
	defer source.Close() // read only
	place, bytes := 0, 0
	err = eachBlock(source, func(block logBlock) bool {
		for _, entry := range block.entries() {
			if place++; place <= after {
				continue
			}
			if bytes += len(entry.Text) + 100; bytes > maxLogReplyBytes && len(log.Lines) > 0 {
				return false
			}
			log.Lines = append(log.Lines, entry)
			log.Next = place
		}
		return true
	})
	if err != nil {
		return log, fmt.Errorf("read log of job %s: %w", id, err)
	}
	log.Complete = bytes <= maxLogReplyBytes
	return log, nil
}

// open returns the plain log, or else the compressed one. The compressed file
// is there before the plain one goes.
func (l *jobLogs) open(id job.ID) (io.ReadCloser, error) {
	plain, err := os.Open(l.path(id))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return plain, err
	}
	packed, err := os.Open(l.path(id) + ".zst")
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		packed.Close() // read only
		return nil, err
	}
	return packedLog{decoder, packed}, nil
}

type packedLog struct {
	*zstd.Decoder
	file *os.File
}

// Close implements io.Closer.
func (p packedLog) Close() error {
	p.Decoder.Close()
	return p.file.Close()
}

// eachBlock calls visit for each event's lines once, in order, until it
// returns false. Lines that cannot be decoded were torn by a crash.
func eachBlock(source io.Reader, visit func(logBlock) bool) error {
	reader := bufio.NewReader(source)
	attempt, seq := 0, 0
	for {
		line, err := reader.ReadBytes('\n')
		var block logBlock
		if len(bytes.TrimSpace(line)) > 0 && json.Unmarshal(line, &block) == nil {
			repeated := block.Attempt < attempt || (block.Attempt == attempt && block.Seq <= seq)
			if !repeated {
				attempt, seq = block.Attempt, block.Seq
				if !visit(block) {
					return nil
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// entries returns a block's lines with their place, and a line of our own
// where the host left some out.
func (b logBlock) entries() []fleet.LogEntry {
	var entries []fleet.LogEntry
	add := func(line job.LogLine) {
		entries = append(entries, fleet.LogEntry{Attempt: b.Attempt, Seq: b.Seq, LogLine: line})
	}
	if b.Omitted > 0 {
		gap := job.LogLine{Level: job.LevelInfo, Text: fmt.Sprintf("[%d lines left out here; the host keeps them in the job's directory]", b.Omitted)}
		if len(b.Lines) > 0 {
			gap.At = b.Lines[0].At
		}
		add(gap)
	}
	for _, line := range b.Lines {
		add(line)
	}
	return entries
}

// compress replaces the plain log of a job that is over. A job without a log, or
// one compressed before, is left as it is; so is one that is appended to
// meanwhile, as its job is open again.
func (l *jobLogs) compress(id job.ID) error {
	path := l.path(id)
	plain, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer plain.Close() // read only
	packed, err := renameio.NewPendingFile(path+".zst", renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("make compressed log: %w", err)
	}
	defer packed.Cleanup() // does nothing after the replacement
	if err := pack(packed, plain); err != nil {
		return fmt.Errorf("compress log %s: %w", path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if more, err := plain.Read(make([]byte, 1)); more > 0 || !errors.Is(err, io.EOF) {
		return err
	}
	if err := packed.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("put compressed log of job %s in place: %w", id, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove plain log: %w", err)
	}
	return nil
}

func pack(to io.Writer, from io.Reader) error {
	encoder, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if _, err := io.Copy(encoder, from); err != nil {
		return errors.Join(err, encoder.Close())
	}
	return encoder.Close()
}

// plain returns the jobs whose logs are not compressed.
func (l *jobLogs) plain() ([]job.ID, error) {
	paths, err := filepath.Glob(filepath.Join(l.dir, "*", "*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var ids []job.ID
	for _, path := range paths {
		if id, err := job.ParseID(strings.TrimSuffix(filepath.Base(path), ".jsonl")); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// remove deletes the log of a job that is dropped from the history.
func (l *jobLogs) remove(id job.ID) error {
	for _, path := range []string{l.path(id), l.path(id) + ".zst"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove log: %w", err)
		}
	}
	return nil
}
