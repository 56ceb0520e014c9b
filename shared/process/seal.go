package process

import (
	"errors"
	"io"
	"os"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/sys/unix"
)

// sealPatience is how long an output is read that somebody else holds open when
// the program has ended. What the program itself printed is in the pipe by then.
const sealPatience = time.Second

// sealer encrypts a program's standard output on its way into the file. It runs
// in the supervisor, so that what is printed touches no disk in clear. If the
// supervisor dies, the program's output goes nowhere, and the file stays torn.
type sealer struct {
	pipe *os.File
	over chan struct{}
}

// seal puts a sealer before the first of the outputs.
func seal(outputs []uintptr, recipient string) (*sealer, error) {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return nil, err
	}
	// For the program an ordinary, blocking pipe; here one that has deadlines.
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(ends[0], true); err != nil {
		return nil, err
	}
	s := &sealer{pipe: os.NewFile(uintptr(ends[0]), "standard output"), over: make(chan struct{})}
	file := os.NewFile(outputs[0], stdoutFile)
	outputs[0] = uintptr(ends[1])
	go func() {
		defer close(s.over)
		// A fault leaves a torn file, which nobody takes for a whole one.
		_ = encrypt(file, s.pipe, to)
		_, _ = io.Copy(io.Discard, s.pipe) // a program whose output is full would never end
		_ = file.Close()
	}()
	return s, nil
}

// finish waits until all that the program printed is encrypted and written.
func (s *sealer) finish() {
	if s == nil {
		return
	}
	_ = s.pipe.SetReadDeadline(time.Now().Add(sealPatience)) // a pipe has deadlines
	<-s.over
	s.pipe.Close() // read only: nothing to lose
}

// encrypt copies all of from into a file, encrypted. Of nothing it makes nothing.
func encrypt(into io.Writer, from io.Reader, to age.Recipient) error {
	text := armor.NewWriter(into)
	var sealed io.WriteCloser
	buffer := make([]byte, 32<<10)
	defer clear(buffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 && sealed == nil {
			var err error
			if sealed, err = age.Encrypt(text, to); err != nil {
				return err
			}
		}
		if n > 0 {
			if _, err := sealed.Write(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case sealed == nil:
			return nil
		default:
			return errors.Join(sealed.Close(), text.Close())
		}
	}
}
