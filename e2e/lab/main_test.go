package lab_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

// actor says that this process is one of the programs that the tests run on
// machines, and which.
const actor = "BORGFLEET_LAB_ACTOR"

func TestMain(m *testing.M) {
	switch os.Getenv(actor) {
	case "dial":
		os.Exit(dial(os.Args[1]))
	case "serve":
		os.Exit(serve(os.Args[1]))
	}
	harness.SetTags("faults")
	os.Exit(lab.Main(m))
}

// dial connects standard input and output with a server.
func dial(address string) int {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		_, _ = io.Copy(connection, os.Stdin) // the other direction tells
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	if _, err := io.Copy(os.Stdout, connection); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve says where it listens, and echoes on every connection.
func serve(host string) int {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			return 1
		}
		go func() {
			defer connection.Close()
			_, _ = io.Copy(connection, connection) // the client sees it
		}()
	}
}
