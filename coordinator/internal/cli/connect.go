package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/daemon"
	"github.com/borgfleet/borgfleet/shared/console"
)

// connect finds the coordinator: --url or BORGFLEET_URL, else the data
// directory of a coordinator on this machine.
func (s *session) connect() (*client.Client, error) {
	url := s.globals.URL
	if url == "" {
		data := s.globals.Data
		if data == "" {
			data = config.Default().Data
		}
		endpoints, err := readEndpoints(data)
		if err != nil {
			return nil, err
		}
		url = endpoints.HTTP
	}
	return client.New(client.Options{URL: url, Token: s.globals.Token})
}

func readEndpoints(data string) (daemon.Endpoints, error) {
	path := filepath.Join(data, daemon.EndpointsFile)
	var endpoints daemon.Endpoints
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return endpoints, console.Exit{Code: console.ExitUnreachable, Err: fmt.Errorf(
			"no coordinator runs on the data directory %s (start one with `borgfleet serve`, or say where it is with --url or BORGFLEET_URL)", data)}
	case errors.Is(err, fs.ErrPermission):
		return endpoints, console.Exit{Code: console.ExitUnreachable, Err: fmt.Errorf("may not read %s (run as the coordinator's user, or use --url)", path)}
	case err != nil:
		return endpoints, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(content, &endpoints); err != nil {
		return endpoints, fmt.Errorf("read %s: %w", path, err)
	}
	return endpoints, nil
}
