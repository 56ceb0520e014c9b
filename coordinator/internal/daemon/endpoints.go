package daemon

import (
	"encoding/json"
	"fmt"

	"github.com/google/renameio/v2"
)

// EndpointsFile is the name of the file, in the data directory, that tells the
// command line on the same machine where the running coordinator listens.
const EndpointsFile = "endpoints.json"

// Endpoints is that file's content.
type Endpoints struct {
	HTTP string `json:"http"` // URL of the status page and API
	Bus  string `json:"bus"`  // URL of the bus
}

func (e Endpoints) write(path string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
