package state

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/borgfleet/borgfleet/shared/job"
)

// content is a copy that is being made.
type content struct {
	dir       string
	database  *os.File // the snapshot; it has no name
	recipient age.Recipient
	skipKey   bool
	logs      bool
	manifest  Manifest
	unlock    func()
}

// Close implements io.Closer.
func (c *content) Close() error {
	defer c.unlock()
	return c.database.Close()
}

// WriteTo implements io.WriterTo. What it returns counts what was written into
// the archive, before compression.
func (c *content) WriteTo(to io.Writer) (int64, error) {
	sealed := io.WriteCloser(keepOpen{to})
	if c.recipient != nil {
		var err error
		if sealed, err = age.Encrypt(to, c.recipient); err != nil {
			return 0, fmt.Errorf("encrypt the copy: %w", err)
		}
	}
	packed, err := zstd.NewWriter(sealed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, fmt.Errorf("compress the copy: %w", err)
	}
	archive := tar.NewWriter(packed)
	if err := c.fill(archive); err != nil {
		return c.size(), errors.Join(err, packed.Close()) // what it still writes ends without a manifest
	}
	for _, closer := range []io.Closer{archive, packed, sealed} {
		if err := closer.Close(); err != nil {
			return c.size(), fmt.Errorf("end the copy: %w", err)
		}
	}
	return c.size(), nil
}

// keepOpen is a writer that is not ours to close.
type keepOpen struct{ io.Writer }

// Close implements io.Closer.
func (keepOpen) Close() error { return nil }

func (c *content) size() (total int64) {
	for _, file := range c.manifest.Files {
		total += file.Size
	}
	return total
}

// fill writes every file. The database comes first: what is read after it may
// only be younger, and revocations that are younger cut off more.
func (c *content) fill(archive *tar.Writer) error {
	if err := c.add(archive, DatabaseFile, c.database); err != nil {
		return err
	}
	names, err := c.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.addFile(archive, name); err != nil {
			return err
		}
	}
	data, err := json.Marshal(c.manifest)
	if err != nil {
		return fmt.Errorf("encode %s: %w", manifestFile, err)
	}
	return write(archive, manifestFile, int64(len(data)), bytes.NewReader(data))
}

// names returns the files in the data directory that belong into the copy,
// besides the database.
func (c *content) names() (names []string, err error) {
	wanted := patterns()[1:]
	if !c.logs {
		wanted = wanted[:len(wanted)-len(logPatterns())]
	}
	for _, pattern := range wanted {
		found, err := fs.Glob(os.DirFS(c.dir), pattern)
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", pattern, err)
		}
		if pattern == KeyFile && c.skipKey {
			continue
		}
		names = append(names, found...)
	}
	return names, nil
}

// addFile adds a file of the data directory. A log may be compressed, or leave
// the history, at any time.
func (c *content) addFile(archive *tar.Writer, name string) error {
	file, err := os.OpenInRoot(c.dir, name)
	if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(name, plainLog) {
		name = strings.TrimSuffix(name, plainLog) + packedLog
		file, err = os.OpenInRoot(c.dir, name)
	}
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, LogsDir+"/") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	defer file.Close() // read only: nothing to lose
	return c.add(archive, name, file)
}

// add writes as much of a file as it has now: a log may grow.
func (c *content) add(archive *tar.Writer, name string, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return job.Fail(job.Conflict, "%s in the data directory is not a file", name).WithHint("move it out of the way")
	}
	sum := sha256.New()
	if err := write(archive, name, info.Size(), io.TeeReader(file, sum)); err != nil {
		return err
	}
	c.manifest.Files = append(c.manifest.Files, File{Name: name, Size: info.Size(), SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func write(archive *tar.Writer, name string, size int64, from io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: fileMode, Format: tar.FormatPAX}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := io.CopyN(archive, from, size); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	return nil
}
