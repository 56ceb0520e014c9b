package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// natsServer is what [NATSServer] built, if anything.
var natsServer struct {
	sync.Mutex
	dir string
	err error
}

// NATSServer returns the path of a stand-alone nats-server, of the version that
// the coordinator has embedded. It is built once, from the module cache.
func NATSServer(t testing.TB) string {
	t.Helper()
	natsServer.Lock()
	defer natsServer.Unlock()
	if natsServer.dir == "" && natsServer.err == nil {
		natsServer.dir, natsServer.err = buildNATSServer()
	}
	if natsServer.err != nil {
		t.Fatal(natsServer.err)
	}
	return filepath.Join(natsServer.dir, "nats-server")
}

func buildNATSServer() (dir string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "borgfleet-nats-"); err != nil {
		return "", err
	}
	compile := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "nats-server"), "github.com/nats-io/nats-server/v2")
	compile.Dir, compile.Env = filepath.Join(root, "coordinator"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return dir, nil
}

func removeNATSServer() {
	if natsServer.dir != "" {
		_ = os.RemoveAll(natsServer.dir)
	}
}
