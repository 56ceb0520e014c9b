package bus_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestStreamSource(t *testing.T) {
	const id = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHJ")
	host, got, err := bus.StreamSource("borgfleet.ingest.v1.web1." + string(id))
	if err != nil || host != "web1" || got != id {
		t.Errorf("source is %q %q (%v)", host, got, err)
	}
	for _, subject := range []string{
		"", "borgfleet.ingest.v1.web1", "borgfleet.ingest.v1.web1.x", "borgfleet.ingest.v1.WEB1." + string(id),
		"borgfleet.ingest.v1.web1." + string(id) + ".more", bus.EventSubject("web1", id),
	} {
		if host, got, err := bus.StreamSource(subject); err == nil {
			t.Errorf("source of %q is %q %q", subject, host, got)
		}
	}
}

func TestViewersOnlyRead(t *testing.T) {
	changes := map[string]bool{
		bus.JobsSubmit: true, bus.JobsCancel: true, bus.JobsRetry: true,
		bus.Prefix + ".jobs.*": true, bus.Prefix + ".hosts.*": true, bus.Prefix + ".repositories.*": true, bus.Prefix + ".plans.*": true,
	}
	for _, subject := range bus.OperatorPermissions(bus.Viewer).Publish {
		if changes[subject] {
			t.Errorf("a viewer may publish to %s", subject)
		}
	}
}
