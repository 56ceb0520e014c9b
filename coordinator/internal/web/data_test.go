package web_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

var noon = time.Date(2026, 11, 22, 14, 7, 22, 0, time.UTC)

// Jobs of the rich world, by what is interesting about them.
var (
	runningBackup = id(40)
	runningCheck  = id(39)
	runningPrune  = id(38)
	waitingBackup = id(37)
	warnedBackup  = id(33)
	prunedJob     = id(32)
	cancelledJob  = id(31)
	goodBackup    = id(30)
	failedBackup  = id(29)
	listJob       = id(28)
	infoJob       = id(27)
	checkedJob    = id(26)
	compactedJob  = id(25)
	initJob       = id(24)
	expiredJob    = id(23)
	sentJob       = id(22)
	dryPruneJob   = id(21)
	mountJob      = id(20)
	verifyJob     = id(19)
	diffJob       = id(18)
	deleteJob     = id(17)
	dryDeleteJob  = id(16)
	damagedJob    = id(15)
	umountJob     = id(14)
	filesJob      = id(13)
	downloadJob   = id(12)
	heldPruneJob  = id(11)
)

func empty() *world {
	return &world{now: noon, status: fleet.Status{Summary: "No hosts yet"}, feed: feed.New()}
}

// rich is a fleet in which everything happens at once.
func rich() *world {
	w := &world{now: noon, feed: feed.New(), logs: map[job.ID]fleet.JobLog{}, people: somebody()}
	w.status.Summary = "2 of 4 hosts need attention"
	w.status.Attention = []fleet.Attention{
		{Kind: "failed", Host: "db2", Repository: "db-main", Job: failedBackup, Since: noon.Add(-11 * time.Hour), Message: "no space left in the repository", Hint: "1.2 GB free on store.example.net. Prune or compact `db-main`, or raise its quota, then retry."},
		{Kind: "offline", Host: "laptop-anna", Since: noon.Add(-76 * time.Hour), Message: "offline for 3 d 4 h", Hint: "Is the agent running there? `systemctl status borgfleet-agent`"},
	}
	w.hosts = []fleet.HostView{
		host("db1", "ssssssssssssss", 11*time.Hour), host("db2", "sssswsssssssff", 35*time.Hour),
		host("laptop-anna", "sssssssss", 76*time.Hour), host("web1", "ssssssssssssss", 12*time.Hour),
	}
	w.hosts[2].Online, w.hosts[2].Since = false, noon.Add(-76*time.Hour)
	w.hosts[3].Labels = map[string]string{"site": "berlin"}
	w.hosts[3].LastBackup.Job, w.hosts[3].LastBackup.Repository = goodBackup, "web1-main"
	w.repositories = richRepositories()
	w.jobs = slices.Concat(runningJobs(), endedJobs(), archiveJobs())
	w.shelf = richShelf()
	w.planning = richPlanning()
	w.logs[runningBackup] = richLog()
	return w
}

func host(name, runs string, ago time.Duration) fleet.HostView {
	h := fleet.HostView{
		Host: fleet.Host{Name: name, Mode: fleet.ModeAgent, CreatedAt: noon.AddDate(0, -3, 0), Facts: &fleet.Facts{
			AgentVersion: "1.0.0", BorgVersion: "1.2.4", OS: "Debian GNU/Linux 12", Slots: 1, FreeBytes: 41_300_000_000,
			StartedAt: noon.Add(-50 * time.Hour), SeenAt: noon.Add(-4 * time.Second),
		}},
		Online: true, Since: noon.Add(-50 * time.Hour),
		LastBackup: &fleet.BackupSummary{
			Job: goodBackup, Host: name, Repository: name + "-main", Archive: name + "-2026-11-22T02:00:00", State: job.Succeeded,
			FinishedAt: noon.Add(-ago), OriginalSize: 402_000_000_000, DeduplicatedSize: 4_120_000_000, NFiles: 148_210, Duration: 131,
		},
	}
	states := map[rune]job.State{'s': job.Succeeded, 'w': job.Warning, 'f': job.Failed}
	for _, r := range runs {
		h.Runs = append(h.Runs, states[r])
	}
	return h
}

func richRepositories() []fleet.RepositoryView {
	repository := func(name, location string) fleet.RepositoryView {
		return fleet.RepositoryView{
			Repository: fleet.Repository{Repository: job.Repository{Name: name, Location: location, Encryption: job.RepokeyBlake2}, CreatedAt: noon.AddDate(0, -3, 0), HasPassphrase: true},
			LastBackup: &fleet.BackupSummary{Job: goodBackup, Host: "web1", Repository: name, FinishedAt: noon.Add(-12 * time.Hour)},
			Info:       &job.RepositoryInfo{UniqueCSize: 212_400_000_000, TotalSize: 4_120_000_000_000, UniqueChunks: 812_331, TotalChunks: 9_120_411},
			InfoAt:     pointer(noon.Add(-2 * time.Hour)), LastCheck: pointer(noon.Add(-50 * time.Hour)), LastPrune: pointer(noon.Add(-12 * time.Hour)),
		}
	}
	list := []fleet.RepositoryView{
		repository("db-main", "ssh://backup@store.example.net/srv/borg/db"),
		repository("nas", "/mnt/borg/nas"),
		repository("web1-main", "ssh://backup@store.example.net:2222/srv/borg/web1"),
	}
	list[2].Busy, list[2].BusyJob = "backup of web1", runningBackup
	list[1].Info, list[1].InfoAt, list[1].LastBackup, list[1].LastCheck = nil, nil, nil, nil
	return list
}

func runningJobs() []job.Job {
	running := func(id job.ID, kind job.Kind, host, repository string, spec job.Spec, p *job.Progress) job.Job {
		return job.Job{
			ID: id, Kind: kind, Host: host, Repository: repository, State: job.Running, Attempt: 1, MaxAttempts: 3, SubmittedBy: "operator:alice",
			SubmittedAt: noon.Add(-2 * time.Minute), StartedAt: pointer(noon.Add(-111 * time.Second)), Spec: spec, Progress: p,
			Attempts: []job.Attempt{{Number: 1, State: job.Running, SentAt: noon.Add(-112 * time.Second), StartedAt: pointer(noon.Add(-111 * time.Second))}},
		}
	}
	backup := running(runningBackup, job.Backup, "web1", "web1-main",
		job.BackupSpec{Paths: []string{"/etc", "/var/www", "/home/anna's files"}, Exclude: []string{"*.tmp"}, Compression: "zstd,3"},
		&job.Progress{Phase: "create", NFiles: 148_210, OriginalSize: 31_400_000_000, CompressedSize: 12_900_000_000, DeduplicatedSize: 212_000_000,
			Path: "var/www/shop/media/2026/11/hero-large.webp", Percent: pointer(72.0), Rate: pointer(int64(118_000_000)), ETASeconds: pointer(int64(100)), At: noon})
	backup.Attempt = 2
	backup.Attempts = []job.Attempt{
		{Number: 1, State: job.Failed, SentAt: noon.Add(-7 * time.Minute), StartedAt: pointer(noon.Add(-440 * time.Second)), FinishedAt: pointer(noon.Add(-411 * time.Second)), Failure: job.Fail(job.ConnectionLost, "connection to store.example.net closed")},
		{Number: 2, State: job.Running, SentAt: noon.Add(-112 * time.Second), StartedAt: pointer(noon.Add(-111 * time.Second))},
	}
	check := running(runningCheck, job.Check, "nas", "nas", job.CheckSpec{VerifyData: true},
		&job.Progress{Phase: "check", OriginalSize: 402_000_000_000, Path: "segment 41207 of 132650", Percent: pointer(31.06), Rate: pointer(int64(231_000_000)), ETASeconds: pointer(int64(3840)), At: noon})
	prune := running(runningPrune, job.Prune, "legacy", "legacy", job.PruneSpec{KeepDaily: 7},
		&job.Progress{Phase: "prune", Path: "archive 2 of 17: legacy-2026-08-02T02:00", At: noon})
	sent := running(sentJob, job.Info, "db1", "db-main", job.InfoSpec{}, nil)
	sent.State, sent.StartedAt, sent.Attempts = job.Sent, nil, nil
	waiting := running(waitingBackup, job.Backup, "web2", "web1-main", job.BackupSpec{Paths: []string{"/etc"}}, nil)
	waiting.State, waiting.Reason, waiting.Attempt, waiting.StartedAt, waiting.Attempts = job.Queued, "repository web1-main is busy with job 0000A8 (backup of web1)", 0, nil, nil
	waiting.ExpiresAt, waiting.Timeout = pointer(noon.Add(2*time.Hour)), 5400
	return []job.Job{backup, check, prune, waiting, sent}
}

func ended(id job.ID, kind job.Kind, host string, state job.State, spec job.Spec) job.Job {
	start := noon.Add(-40 * time.Minute)
	end := start.Add(131 * time.Second)
	return job.Job{
		ID: id, Kind: kind, Host: host, Repository: "web1-main", State: state, Attempt: 1, MaxAttempts: 3, SubmittedBy: "operator:alice",
		SubmittedAt: start.Add(-time.Second), StartedAt: &start, FinishedAt: &end, Spec: spec,
		Attempts: []job.Attempt{{Number: 1, State: state, SentAt: start, StartedAt: &start, FinishedAt: &end}},
	}
}

func endedJobs() []job.Job {
	result := job.Result{
		Archive: "mail-2026-11-22T13:27:22", ArchiveID: "9f0c3a", OriginalSize: 31_400_000_000, CompressedSize: 12_900_000_000,
		DeduplicatedSize: 212_000_000, NFiles: 148_210, Duration: 131, BorgVersion: "1.2.4",
	}
	result.SetRatios()
	backup := job.BackupSpec{Paths: []string{"/etc", "/srv"}, ExcludeCaches: true}
	good := ended(goodBackup, job.Backup, "mail", job.Succeeded, backup)
	good.Result = &result
	warned := ended(warnedBackup, job.Backup, "build3", job.Warning, backup)
	warnings := result
	warnings.Warnings = []string{"/var/www/cache/index.lock: file changed while we backed it up", "/home/anna/.gvfs: stat: [Errno 13] Permission denied"}
	warned.Result = &warnings
	failed := ended(failedBackup, job.Backup, "db2", job.Failed, backup)
	failed.Failure = job.Fail(job.DiskFull, "no space left in the repository").WithHint("Prune or compact `db-main`, or raise its quota, then retry.")
	pruned := ended(prunedJob, job.Prune, "mail", job.Succeeded, job.PruneSpec{KeepDaily: 7, KeepWithin: "2d"})
	pruned.Result = &job.Result{Kept: []string{"mail-2026-11-22", "mail-2026-11-21"}, Pruned: []string{"mail-2026-08-02"}, Duration: 6.2}
	dry := ended(dryPruneJob, job.Prune, "mail", job.Succeeded, job.PruneSpec{KeepDaily: 7, DryRun: true})
	dry.Result = &job.Result{Kept: []string{"mail-2026-11-22"}, KeptBy: map[string]string{"mail-2026-11-22": "daily #1"}, Pruned: []string{"mail-2026-08-02"}, Duration: 0.4}
	cancelled := ended(cancelledJob, job.Backup, "nas", job.Cancelled, backup)
	cancelled.Failure = job.Fail(job.CodeCancelled, "cancelled by operator:anna")
	expired := ended(expiredJob, job.Backup, "laptop-anna", job.Expired, backup)
	expired.StartedAt, expired.Attempts = nil, nil
	list := ended(listJob, job.List, "web1", job.Succeeded, job.ListSpec{Prefix: "web1-"})
	list.Result = &job.Result{Archives: []job.Archive{{Name: "web1-2026-11-21", Start: noon.AddDate(0, 0, -1), Hostname: "web1"}, {Name: "web1-2026-11-22", Start: noon}}, Duration: 1.2}
	info := ended(infoJob, job.Info, "web1", job.Succeeded, job.InfoSpec{})
	info.Result = &job.Result{Repository: richRepositories()[0].Info, Duration: 1.4}
	checked := ended(checkedJob, job.Check, "web1", job.Succeeded, job.CheckSpec{MaxDuration: 3600})
	checked.Result = &job.Result{Duration: 3605}
	compacted := ended(compactedJob, job.Compact, "web1", job.Succeeded, job.CompactSpec{Threshold: 5})
	compacted.Result = &job.Result{FreedBytes: pointer(int64(12_300_000_000)), Duration: 12}
	created := ended(initJob, job.Init, "web1", job.Succeeded, job.InitSpec{Encryption: job.Repokey})
	created.Result = &job.Result{Duration: 0.9}
	return []job.Job{warned, pruned, cancelled, good, failed, list, info, checked, compacted, created, expired, dry}
}

// archiveJobs are jobs that look after archives, or use them.
func archiveJobs() []job.Job {
	mount := ended(mountJob, job.Mount, "web1", job.Running, job.MountSpec{Archive: newest, MountPoint: "/var/restore/borgfleet/mnt", Idle: 7200})
	mount.FinishedAt, mount.Progress = nil, &job.Progress{Phase: job.PhaseMounted, At: noon}
	verify := ended(verifyJob, job.Verify, "web1", job.Warning, job.VerifySpec{})
	verify.Repository = ""
	verify.Result = &job.Result{Checks: []job.Finding{{Name: "borg", Good: true, Detail: "borg 1.2.4 at `/usr/bin/borg`"}, {Name: "fuse", Detail: "python3-pyfuse3 is missing", Hint: "apt install `python3-pyfuse3`"}}}
	diff := ended(diffJob, job.Diff, "web1", job.Succeeded, job.DiffSpec{Archive: older, Other: newest, Paths: []string{"etc"}})
	diff.Result = &job.Result{Diff: &job.Difference{Added: 1, Removed: 1, Metadata: 1, AddedBytes: 1_200_000, Omitted: 17, Changes: []job.Change{
		{Path: "new.sql", Kind: "added", Type: "file", Added: 1_200_000}, {Path: "etc/old", Kind: "removed", Type: "directory"}, {Path: "etc/hosts", Kind: "metadata", Type: "file", Detail: "mode -rw-r--r-- to -rw-------"},
	}}}
	gone := ended(deleteJob, job.Delete, "web1", job.Succeeded, job.DeleteSpec{Archives: []string{"web1-2020"}})
	gone.Result = &job.Result{Deleted: []string{"web1-2020"}}
	going := ended(dryDeleteJob, job.Delete, "web1", job.Succeeded, job.DeleteSpec{Glob: "web1-*", DryRun: true})
	going.Result = &job.Result{Deleted: []string{newest, older}}
	damaged := ended(damagedJob, job.Check, "web1", job.Failed, job.CheckSpec{VerifyData: true})
	damaged.Failure = job.Fail(job.IntegrityError, "the repository is damaged").WithHint("repair it")
	damaged.Result = &job.Result{Damaged: []string{"web1-2026: etc/hosts: chunk 41 is missing"}, DamagedOmitted: 3}
	umount := ended(umountJob, job.Umount, "web1", job.Succeeded, job.UmountSpec{MountPoint: "/var/restore/borgfleet/mnt", Force: true})
	umount.Repository, umount.Result = "", &job.Result{MountPoint: "/var/restore/borgfleet/mnt"}
	files := ended(filesJob, job.List, "web1", job.Succeeded, job.ListSpec{Archive: newest})
	files.Result = &job.Result{Archive: newest}
	download := ended(downloadJob, job.Download, "web1", job.Succeeded, job.DownloadSpec{Archive: newest, Path: "etc/hosts", Format: job.DownloadFile})
	download.Result = &job.Result{Archive: newest}
	held := ended(heldPruneJob, job.Prune, "web1", job.Failed, job.PruneSpec{KeepLast: 1, Prefix: "web1-"})
	held.Failure = job.Fail(job.NeedsConfirmation, "9 of 10 archives would be deleted, more than 50 %%; nothing was")
	return []job.Job{mount, verify, diff, gone, going, damaged, umount, files, download, held}
}

func richLog() fleet.JobLog {
	line := func(attempt int, ms int, level job.Level, format string, args ...any) fleet.LogEntry {
		at := noon.Add(-111*time.Second + time.Duration(ms)*time.Millisecond)
		return fleet.LogEntry{Attempt: attempt, Seq: ms, LogLine: job.LogLine{At: at, Level: level, Text: fmt.Sprintf(format, args...)}}
	}
	return fleet.JobLog{Lines: []fleet.LogEntry{
		line(1, 1, job.LevelInfo, "accepted by web1"),
		line(1, 2, job.LevelError, "Connection closed by remote host"),
		line(2, 31, job.LevelInfo, "borg create --json --log-json --progress --compression zstd,3 …::web1-2026-11-22T14:05:31 /etc /var/www /home"),
		line(2, 588, job.LevelInfo, "Creating archive at \"ssh://backup@store.example.net/srv/borg/web1::web1-2026-11-22T14:05:31\""),
		line(2, 30_720, job.LevelWarning, "/var/www/shop/cache/index.lock: file changed while we backed it up"),
		line(2, 69_151, job.LevelWarning, "/home/anna/.gvfs: stat: [Errno 13] Permission denied"),
	}}
}

// hostile is a world whose every text tries to break out of its place.
func hostile() *world {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>'` + "\x1b[31m\u202e`"
	w := rich()
	w.status.Summary = evil
	w.status.KeysNotExported = []string{evil}
	w.status.Attention = append(w.status.Attention, fleet.Attention{Kind: evil, Host: evil, Repository: evil, Message: evil, Hint: evil})
	w.spoilJobs(evil)
	for i := range w.hosts {
		w.hosts[i].Labels = map[string]string{evil: evil}
		w.hosts[i].PublicKey, w.hosts[i].SealKey, w.hosts[i].SSHKey = evil, evil, evil
		facts := *w.hosts[i].Facts
		facts.OS, facts.BorgVersion, facts.AgentVersion, facts.BorgFailure = evil, evil, evil, job.Fail(evil, evil)
		w.hosts[i].Facts = &facts
		w.hosts[i].LastBackup.Archive, w.hosts[i].LastBackup.Repository = evil, evil
	}
	for i := range w.repositories {
		w.repositories[i].Location, w.repositories[i].Busy = evil, evil
		w.repositories[i].Custody, w.repositories[i].SealedFor = fleet.CustodyHosts, []string{evil}
	}
	w.people.spoil(evil)
	w.shelf.spoil(evil)
	w.planning.spoil(evil)
	log := w.logs[runningBackup]
	for i := range log.Lines {
		log.Lines[i].Text = evil
	}
	return w
}

// spoilJobs makes all that is known of jobs hostile.
func (w *world) spoilJobs(evil string) {
	for i := range w.jobs {
		j := &w.jobs[i]
		j.SubmittedBy, j.Reason, j.Plan = evil, evil, evil
		if j.Progress != nil {
			j.Progress.Path = evil
		}
		if j.Failure != nil {
			j.Failure = &job.Failure{Code: job.Code(evil), Message: evil, Hint: evil}
		}
		if j.Result != nil {
			r := *j.Result
			r.Archive, r.ArchiveID, r.Warnings, r.Kept, r.Pruned = evil, evil, []string{evil}, []string{evil}, []string{evil}
			r.Archives = []job.Archive{{Name: evil, Hostname: evil}}
			r.Checks, r.Damaged, r.Deleted, r.KeptBy, r.MountPoint = []job.Finding{{Name: evil, Detail: evil, Hint: evil}}, []string{evil}, []string{evil}, map[string]string{evil: evil}, evil
			if r.Diff != nil {
				r.Diff = &job.Difference{Added: 1, Changes: []job.Change{{Path: evil, Kind: evil, Type: evil, Detail: evil}}}
			}
			j.Result = &r
		}
		switch j.Spec.(type) {
		case job.MountSpec:
			j.Spec = job.MountSpec{Archive: evil, MountPoint: evil}
		case job.DiffSpec:
			j.Spec = job.DiffSpec{Archive: evil, Other: evil, Paths: []string{evil}}
		case job.DownloadSpec:
			j.Spec = job.DownloadSpec{Archive: evil, Path: evil}
		}
		if j.Kind == job.Backup {
			j.Spec = job.BackupSpec{Paths: []string{evil}, Exclude: []string{evil}, Comment: evil, Archive: evil, Compression: evil}
		}
	}
}

// spoil makes all that is known of people hostile.
func (p *people) spoil(evil string) {
	for i := range p.users {
		p.users[i].CreatedBy = evil
	}
	for i := range p.tokens {
		p.tokens[i].Name, p.tokens[i].CreatedBy = evil, evil
	}
	for i := range p.creds {
		p.creds[i].PublicKey, p.creds[i].CreatedBy = evil, evil
	}
	for i := range p.entries {
		e := &p.entries[i]
		e.By, e.From, e.Action, e.Object, e.Outcome, e.Detail, e.Hash = evil, evil, evil, evil, evil, evil, evil
	}
	p.proof.Message, p.proof.Head = evil, evil
}
