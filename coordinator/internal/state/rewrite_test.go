package state_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// rewrite makes a copy anew with every file as change wants it, nil for none,
// and with more files before the manifest.
func rewrite(t *testing.T, data []byte, change func(name string, data []byte) []byte, more ...string) []byte {
	t.Helper()
	decoder, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	var out bytes.Buffer
	encoder, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	from, to := tar.NewReader(decoder), tar.NewWriter(encoder)
	add := func(name string, text []byte) {
		header := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600}
		err := to.WriteHeader(&header)
		_, err2 := to.Write(text)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
	}
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		if header.Name == "manifest.json" {
			for _, name := range more {
				add(name, []byte("x"))
			}
		}
		if text = change(header.Name, text); text != nil {
			add(header.Name, text)
		}
	}
	if err := errors.Join(to.Close(), encoder.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
