package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/daemon"
	"github.com/borgfleet/borgfleet/shared/console"
)

// connect finds the coordinator: --url; else the data directory that was named;
// else where login signed in; else the default data directory. What lets one in
// belongs to that place, unless BORGFLEET_TOKEN is set.
func (s *session) connect() (*client.Client, error) {
	options, err := s.whereTo()
	if err != nil {
		return nil, err
	}
	if s.globals.Token != "" {
		options.Token = s.globals.Token
	}
	if options.Token == "" {
		s.globals.stranger = options.URL
	}
	return client.New(options)
}

func (s *session) whereTo() (client.Options, error) {
	if asked := strings.TrimRight(s.globals.URL, "/"); asked != "" {
		return s.known(asked)
	}
	if s.globals.Data == "" {
		if stored, ok, err := readLogin(); ok || err != nil {
			return stored.options(), err
		}
	}
	return readOwn(s.dataDir())
}

// known returns what this machine knows of the coordinator at an address: how
// to get in, and which authority to trust.
func (s *session) known(address string) (client.Options, error) {
	stored, ok, err := readLogin()
	if err != nil {
		return client.Options{}, err
	}
	own, err := readOwn(s.dataDir())
	isOwn, isStored := err == nil && own.URL == address, ok && stored.URL == address
	switch {
	case isOwn && (s.globals.Data != "" || !isStored):
		return own, nil
	case isStored:
		return stored.options(), nil
	default:
		return client.Options{URL: address}, nil
	}
}

func (s *session) dataDir() string {
	if s.globals.Data != "" {
		return s.globals.Data
	}
	return config.Default().Data
}

// readOwn returns how to reach the coordinator that runs on a data directory,
// with the credentials of the directory's owner.
func readOwn(data string) (client.Options, error) {
	endpoints, err := readEndpoints(data)
	if err != nil {
		return client.Options{}, err
	}
	token, err := os.ReadFile(filepath.Join(data, daemon.LocalTokenFile))
	if err != nil {
		return client.Options{}, unreadable(filepath.Join(data, daemon.LocalTokenFile), err)
	}
	options := client.Options{URL: endpoints.HTTP, Token: strings.TrimSpace(string(token))}
	if strings.HasPrefix(endpoints.HTTP, "https:") && endpoints.CAFile != "" {
		if options.CA, err = os.ReadFile(endpoints.CAFile); err != nil {
			return client.Options{}, unreadable(endpoints.CAFile, err)
		}
	}
	return options, nil
}

func readEndpoints(data string) (daemon.Endpoints, error) {
	path := filepath.Join(data, daemon.EndpointsFile)
	var endpoints daemon.Endpoints
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return endpoints, console.Exit{Code: console.ExitUnreachable, Err: fmt.Errorf(
			"no coordinator runs on the data directory %s (start one with `borgfleet serve`; for one elsewhere: borgfleet login URL)", data)}
	}
	if err != nil {
		return endpoints, unreadable(path, err)
	}
	if err := json.Unmarshal(content, &endpoints); err != nil {
		return endpoints, fmt.Errorf("read %s: %w", path, err)
	}
	return endpoints, nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return console.Exit{Code: console.ExitUnreachable, Err: fmt.Errorf("may not read %s (run as the coordinator's user, or use borgfleet login URL)", path)}
	}
	return fmt.Errorf("read %s: %w", path, err)
}
