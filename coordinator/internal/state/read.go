package state

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	fileMode = 0o600
	dirMode  = 0o700

	maxWindow = 64 << 20 // memory that a compressed copy may ask for
)

// How the two kinds of copies begin.
const (
	ageMagic  = "age-encryption.org/"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// unpack writes a copy's files below dir, which is empty, and returns its
// manifest when every one of them is whole.
func unpack(copied io.Reader, identities []age.Identity, dir string) (Manifest, error) {
	plain, err := decrypt(bufio.NewReader(copied), identities)
	if err != nil {
		return Manifest{}, err
	}
	decoder, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return Manifest{}, fmt.Errorf("decompress the copy: %w", err)
	}
	defer decoder.Close()
	manifest, err := unpackFiles(tar.NewReader(decoder), dir)
	if err != nil {
		return manifest, err
	}
	if _, err := io.Copy(io.Discard, decoder); err != nil { // what ends the encryption lies behind the archive
		return manifest, unreadable(err)
	}
	return manifest, nil
}

// decrypt returns the compressed archive.
func decrypt(copied *bufio.Reader, identities []age.Identity) (io.Reader, error) {
	begin, _ := copied.Peek(len(ageMagic)) // a file that is shorter is none of both
	switch {
	case bytes.HasPrefix(begin, []byte(zstdMagic)):
		return copied, nil
	case string(begin) != ageMagic:
		return nil, job.Fail(job.InvalidRequest, "this is not a copy of a coordinator's state").WithHint("give a file that borgfleet state backup wrote")
	case len(identities) == 0:
		return nil, job.Fail(job.KeyMissing, "the copy is encrypted").WithHint("give the identity that opens it: --identity FILE")
	}
	plain, err := age.Decrypt(copied, identities...)
	if _, other := errors.AsType[*age.NoIdentityMatchError](err); other {
		return nil, job.Fail(job.KeyMissing, "the identity does not open this copy").WithHint("give the one whose recipient the copy was made for")
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return plain, nil
}

func unreadable(err error) error { return damaged("%s", err) }

// unpackFiles writes the files until the manifest, which ends the archive.
func unpackFiles(archive *tar.Reader, dir string) (Manifest, error) {
	found := map[string]File{}
	for {
		header, err := archive.Next()
		if err != nil {
			return Manifest{}, unreadable(fmt.Errorf("it ends without a manifest: %w", err))
		}
		if header.Name == manifestFile {
			return lastEntry(archive, found)
		}
		_, twice := found[header.Name]
		if header.Typeflag != tar.TypeReg || !allowed(header.Name) || twice {
			return Manifest{}, damaged("it has %q, which does not belong there", header.Name)
		}
		if found[header.Name], err = unpackFile(archive, header.Name, dir); err != nil {
			return Manifest{}, err
		}
	}
}

func lastEntry(archive *tar.Reader, found map[string]File) (Manifest, error) {
	manifest, err := readManifest(archive)
	if _, refused := errors.AsType[*job.Failure](err); err != nil && !refused {
		err = unreadable(err)
	}
	if err != nil {
		return manifest, err
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return manifest, damaged("something follows on its manifest (%v)", err)
	}
	return manifest, manifest.check(found)
}

// unpackFile writes one file. It is synced, unless it is a log: there may be a
// million of them.
func unpackFile(from io.Reader, name, dir string) (File, error) {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return File{}, fmt.Errorf("unpack the copy: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return File{}, fmt.Errorf("unpack the copy: %w", err)
	}
	sum, source := sha256.New(), &markedReader{from: from}
	size, err := io.Copy(io.MultiWriter(file, sum), source)
	if err == nil && !strings.HasPrefix(name, LogsDir+"/") {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		if source.err != nil {
			return File{}, unreadable(source.err)
		}
		return File{}, fmt.Errorf("unpack the copy: %w", err)
	}
	return File{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// markedReader tells a copy that cannot be read from a disk that cannot be
// written.
type markedReader struct {
	from io.Reader
	err  error
}

// Read implements io.Reader.
func (r *markedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
