package busapi_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// TestAPageOfFilesFitsAMessage: it is shorter than asked for where paths are
// long, and leads on.
func TestAPageOfFilesFitsAMessage(t *testing.T) {
	operator, _ := serve(t, &coordinator{})
	var page fleet.FilePage
	if failure := request(t, operator, bus.ArchivesFiles, `{"repository":"main","archive":"a1","limit":1000}`, &page); failure != nil {
		t.Fatal(failure)
	}
	if n := len(page.Files); n < 100 || n >= 1000 || page.Cursor == "" {
		t.Errorf("%d entries, cursor %q", n, page.Cursor)
	}
}

// TestViewersReadArchives holds that the bus lets them ask.
func TestViewersReadArchives(t *testing.T) {
	_, _, b := serveOn(t, &coordinator{})
	viewer := connect(t, b, "vera", bus.Viewer)
	for subject, body := range map[string]string{
		bus.ArchivesList:    `{"repository":"main"}`,
		bus.ArchivesFiles:   `{"repository":"main","archive":"a1","limit":1}`,
		bus.ArchivesFind:    `{"name":"hosts"}`,
		bus.ArchivesHistory: `{"repository":"main","path":"etc/hosts"}`,
	} {
		if failure := request(t, viewer, subject, body, new(any)); failure != nil {
			t.Errorf("%s: %v", subject, failure)
		}
	}
}
