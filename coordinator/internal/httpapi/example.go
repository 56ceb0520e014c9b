package httpapi

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// The examples of the document are values of the real types, so that they
// cannot show fields that there are not.

const exampleID job.ID = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"

func exampleTime() time.Time { return time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC) }

func exampleJob() job.Job {
	started := exampleTime().Add(2 * time.Second)
	percent, rate, eta := 42.0, int64(52428800), int64(118)
	return job.Job{
		ID: exampleID, Kind: job.Backup, Host: "web1", Repository: "web1-main", Plan: "web1-daily",
		State: job.Running, Attempt: 1, MaxAttempts: 3, SubmittedBy: "operator:alice",
		SubmittedAt: exampleTime(), StartedAt: &started,
		Spec: job.BackupSpec{Paths: []string{"/etc", "/var/www"}, Exclude: []string{"*.log"}, Compression: "zstd,3"},
		Progress: &job.Progress{
			Phase: "create", NFiles: 1542, OriginalSize: 10737418240, CompressedSize: 5368709120, DeduplicatedSize: 268435456,
			Path: "/var/www/html/index.html", Percent: &percent, Rate: &rate, ETASeconds: &eta, At: started.Add(85 * time.Second),
		},
		Attempts: []job.Attempt{{Number: 1, State: job.Running, Archive: "web1-2026-11-22T02:00:00", SentAt: exampleTime(), StartedAt: &started}},
	}
}

func exampleLog() fleet.JobLog {
	return fleet.JobLog{
		Lines: []fleet.LogEntry{{Attempt: 1, Seq: 3, LogLine: job.LogLine{
			At: exampleTime().Add(3 * time.Second), Level: job.LevelInfo, Text: `Creating archive at "ssh://backup@store.example.net/srv/borg/web1::web1-2026-11-22T02:00:00"`,
		}}},
		Next: 1,
	}
}

func exampleBackup() *fleet.BackupSummary {
	return &fleet.BackupSummary{
		Job: "01JD7A3S9K2N5P7R9T0VWXYZ12", Host: "web1", Repository: "web1-main", Archive: "web1-2026-11-21T02:00:00",
		State: job.Succeeded, FinishedAt: exampleTime().Add(-23 * time.Hour), OriginalSize: 25564000000, DeduplicatedSize: 181403648, NFiles: 48211, Duration: 203.4,
	}
}

func exampleHost() fleet.HostView {
	return fleet.HostView{
		Host: fleet.Host{
			Name: "web1", Mode: fleet.ModeAgent, Labels: map[string]string{"site": "fra"}, CreatedAt: exampleTime().AddDate(0, -3, 0),
			PublicKey: "UA5V3QHYZ6WCNVB2M7SLTKD4GJ3XRPEOIF5A6C7U2T4NQYHW3JKLMBRD", SealKey: "XDNQ3KHZ7WVLTB2M5SCRYD4GJ6XPOEIF5A6C7U2T4QHW3JKLMBRNAYVE",
			Facts: &fleet.Facts{
				AgentVersion: "1.0.0", BorgVersion: "1.2.4", OS: "Debian GNU/Linux 12 (bookworm)", Slots: 1,
				FreeBytes: 42949672960, StartedAt: exampleTime().AddDate(0, 0, -9), SeenAt: exampleTime(),
			},
		},
		Online: true, Since: exampleTime().AddDate(0, 0, -9), Running: 1, LastBackup: exampleBackup(),
		Runs: []job.State{job.Succeeded, job.Warning, job.Succeeded},
	}
}

func exampleRepository() fleet.RepositoryView {
	return fleet.RepositoryView{
		Repository: fleet.Repository{
			Repository: job.Repository{Name: "web1-main", Location: "ssh://backup@store.example.net/srv/borg/web1", Encryption: job.RepokeyBlake2},
			CreatedAt:  exampleTime().AddDate(0, -3, 0), HasPassphrase: true, Custody: fleet.CustodyCoordinator,
		},
		Busy: "backup of web1", BusyJob: exampleID, LastBackup: exampleBackup(), HasKey: true, SealedFor: []string{},
	}
}

func exampleStatus() fleet.Status {
	return completeStatus(fleet.Status{
		Summary: "1 backup is running", At: exampleTime().Add(87 * time.Second), Version: "1.0.0", HostsOnline: 1, HostsTotal: 1,
		Jobs: map[job.State]int{job.Running: 1, job.Succeeded: 3}, Hosts: []fleet.HostView{exampleHost()}, Running: []job.Job{exampleJob()},
	})
}
