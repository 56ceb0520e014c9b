package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// NewBorgRepository is a request to make a repository.
type NewBorgRepository struct {
	BorgBody
	// EncryptionMode is left to the spec to check, whose code and hint are better.
	EncryptionMode string `json:"encryption_mode,omitempty" maxLength:"100" doc:"repokey-blake2, repokey, keyfile-blake2, keyfile, authenticated-blake2, authenticated or none; left out: repokey-blake2, or what a known repository is declared with"`
}

// BorgRepositoryMade is a repository that was made.
type BorgRepositoryMade struct {
	Success        bool           `json:"success" doc:"always true: what fails is a problem document"`
	RepositoryPath string         `json:"repository_path" doc:"as it was asked for"`
	EncryptionMode job.Encryption `json:"encryption_mode" doc:"borg's encryption mode"`
	RepositoryID   string         `json:"repository_id" doc:"borg's id of the repository"`
	Message        string         `json:"message" doc:"what was done, in a sentence"`
}

// NewBorgPrune is a request to delete archives that no rule keeps. The numbers
// are pointers, as 0 is not the same as none.
type NewBorgPrune struct {
	BorgBody
	KeepHourly  *int `json:"keep_hourly,omitempty" default:"0" doc:"how many hours to keep one of"`
	KeepDaily   *int `json:"keep_daily,omitempty" default:"7" doc:"how many days to keep one of"`
	KeepWeekly  *int `json:"keep_weekly,omitempty" default:"4" doc:"how many weeks to keep one of"`
	KeepMonthly *int `json:"keep_monthly,omitempty" default:"6" doc:"how many months to keep one of"`
	KeepYearly  *int `json:"keep_yearly,omitempty" default:"2" doc:"how many years to keep one of"`
}

// BorgKeepPolicy is what a prune was asked to keep.
type BorgKeepPolicy struct {
	KeepHourly  int `json:"keep_hourly" doc:"how many hours to keep one of"`
	KeepDaily   int `json:"keep_daily" doc:"how many days to keep one of"`
	KeepWeekly  int `json:"keep_weekly" doc:"how many weeks to keep one of"`
	KeepMonthly int `json:"keep_monthly" doc:"how many months to keep one of"`
	KeepYearly  int `json:"keep_yearly" doc:"how many years to keep one of"`
}

// BorgPruned is what a prune did.
type BorgPruned struct {
	Success        bool           `json:"success" doc:"always true: what fails is a problem document"`
	RepositoryPath string         `json:"repository_path" doc:"as it was asked for"`
	KeepPolicy     BorgKeepPolicy `json:"keep_policy" doc:"the rules that were followed"`
	Output         string         `json:"output" doc:"a line for each archive: kept, and by which rule, or deleted"`
	Message        string         `json:"message" doc:"what was done, in a sentence"`
}

// BorgCompacted is what a compaction did.
type BorgCompacted struct {
	Success        bool   `json:"success" doc:"always true: what fails is a problem document"`
	RepositoryPath string `json:"repository_path" doc:"as it was asked for"`
	Message        string `json:"message" doc:"what was done, in a sentence"`
}

type borgCheckInput struct {
	BorgQuery
	VerifyData bool `query:"verify_data" default:"false" doc:"also read and verify every chunk"`
}

// BorgChecked is a check that found nothing wrong.
type BorgChecked struct {
	Success        bool   `json:"success" doc:"always true: what fails, or finds damage, is a problem document"`
	RepositoryPath string `json:"repository_path" doc:"as it was asked for"`
	VerifyData     bool   `json:"verify_data" doc:"whether every chunk was read and verified"`
	Message        string `json:"message" doc:"what was done, in a sentence"`
}

// BorgInfo is what borg knows of a repository.
type BorgInfo struct {
	RepositoryID       string         `json:"repository_id" doc:"borg's id of the repository"`
	Location           string         `json:"location" doc:"where borg found it"`
	LastModified       *time.Time     `json:"last_modified" doc:"when it was last written to; null when borg did not say"`
	EncryptionMode     job.Encryption `json:"encryption_mode" doc:"borg's encryption mode"`
	UniqueChunks       int64          `json:"unique_chunks" doc:"how many chunks it holds"`
	TotalChunks        int64          `json:"total_chunks" doc:"how many chunks its archives refer to"`
	TotalSize          int64          `json:"total_size" doc:"bytes of all archives, uncompressed"`
	UniqueSize         int64          `json:"unique_size" doc:"bytes on the disk: deduplicated and compressed"`
	DeduplicationRatio float64        `json:"deduplication_ratio" doc:"unique_size / total_size; 0 when total_size is 0"`
}

func (a *API) borgInit(ctx context.Context, in *struct {
	Preference
	Body NewBorgRepository
}) (*waitedOutput, error) {
	asked := in.Body.request(in.Preference, job.InitSpec{Encryption: job.Encryption(in.Body.EncryptionMode)})
	call, err := a.prepare(ctx, asked)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.run(ctx, call, waiting{body: func(j job.Job) (any, error) {
		made := BorgRepositoryMade{
			Success: true, RepositoryPath: in.Body.RepositoryPath, EncryptionMode: j.Spec.(job.InitSpec).Encryption,
			Message: fmt.Sprintf("the repository was made on host %s, and is known here as %s; export its key, and keep that elsewhere", j.Host, j.Repository),
		}
		if made.EncryptionMode == job.Unencrypted {
			made.Message = fmt.Sprintf("the repository was made on host %s without encryption, and is known here as %s", j.Host, j.Repository)
		}
		made.Message = remark(j, made.Message)
		id, err := a.repositoryID(ctx, call, j)
		if err != nil { // which does not unmake it
			made.Message += "; its id could not be read: " + err.Error()
		}
		made.RepositoryID = id
		return made, nil
	}})
}

// repositoryID is borg's id of a repository that was made just now. Borg's init
// does not tell it, so that it takes another job.
func (a *API) repositoryID(ctx context.Context, call borgCall, made job.Job) (string, error) {
	if info := resultOf(made).Repository; info != nil && info.ID != "" {
		return info.ID, nil
	}
	told, err := a.also(ctx, call, job.InfoSpec{})
	if err != nil {
		return "", err
	}
	if info := resultOf(told).Repository; info != nil {
		return info.ID, nil
	}
	return "", nil
}

func (a *API) borgPrune(ctx context.Context, in *struct {
	Preference
	Body NewBorgPrune
}) (*waitedOutput, error) {
	policy := BorgKeepPolicy{
		KeepHourly: *in.Body.KeepHourly, KeepDaily: *in.Body.KeepDaily, KeepWeekly: *in.Body.KeepWeekly,
		KeepMonthly: *in.Body.KeepMonthly, KeepYearly: *in.Body.KeepYearly,
	}
	asked := in.Body.request(in.Preference, job.PruneSpec{
		KeepHourly: policy.KeepHourly, KeepDaily: policy.KeepDaily, KeepWeekly: policy.KeepWeekly,
		KeepMonthly: policy.KeepMonthly, KeepYearly: policy.KeepYearly,
		All: true, Confirmed: true, // there is nobody to ask here, and the rules are given
	})
	call, err := a.prepare(ctx, asked)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	if err := a.survey(ctx, call); err != nil {
		return nil, err
	}
	call.repository.Pending = false // it is kept by now, if it was not before
	return a.run(ctx, call, waiting{body: func(j job.Job) (any, error) {
		result := resultOf(j)
		kept, pruned := len(result.Kept)+result.KeptOmitted, len(result.Pruned)+result.PrunedOmitted
		return BorgPruned{
			Success: true, RepositoryPath: in.Body.RepositoryPath, KeepPolicy: policy, Output: pruneOutput(result),
			Message: remark(j, fmt.Sprintf("%s kept, %s deleted; a compaction frees the space", human.Plural(kept, "archive"), human.Count(pruned))),
		}, nil
	}})
}

func (a *API) borgCompact(ctx context.Context, in *BorgQuery) (*waitedOutput, error) {
	return a.operateQuery(ctx, in, job.CompactSpec{}, func(j job.Job) (any, error) {
		message := "compacted; borg did not say how much that freed"
		if freed := resultOf(j).FreedBytes; freed != nil {
			message = human.Bytes(*freed) + " freed"
		}
		return BorgCompacted{Success: true, RepositoryPath: in.RepositoryPath, Message: remark(j, message)}, nil
	})
}

func (a *API) borgCheck(ctx context.Context, in *borgCheckInput) (*waitedOutput, error) {
	return a.operateQuery(ctx, &in.BorgQuery, job.CheckSpec{VerifyData: in.VerifyData}, func(j job.Job) (any, error) {
		message := "no problems found in repository and archives"
		if in.VerifyData {
			message += "; all data was read and verified"
		}
		message += " in " + human.Seconds(resultOf(j).Duration)
		return BorgChecked{Success: true, RepositoryPath: in.RepositoryPath, VerifyData: in.VerifyData, Message: remark(j, message)}, nil
	})
}

func (a *API) borgInfo(ctx context.Context, in *BorgQuery) (*waitedOutput, error) {
	return a.operateQuery(ctx, in, job.InfoSpec{}, func(j job.Job) (any, error) {
		info := resultOf(j).Repository
		if info == nil {
			return nil, job.Fail(job.Internal, "borg said nothing of the repository").WithHint("GET %s/jobs/%s/log shows what it said", Prefix, j.ID)
		}
		told := BorgInfo{
			RepositoryID: info.ID, Location: info.Location, EncryptionMode: info.Encryption,
			UniqueChunks: info.UniqueChunks, TotalChunks: info.TotalChunks, TotalSize: info.TotalSize, UniqueSize: info.UniqueCSize,
		}
		if info.LastModified != nil {
			modified := info.LastModified.UTC()
			told.LastModified = &modified
		}
		if info.TotalSize > 0 {
			told.DeduplicationRatio = float64(info.UniqueCSize) / float64(info.TotalSize)
		}
		return told, nil
	})
}

func (a *API) registerBorgRepository() {
	body := BorgBody{RepositoryPath: "/srv/borg/web1", Passphrase: "correct horse battery staple"}
	made := a.borg(operation{
		id: "borg-init", method: http.MethodPost, path: "/init", summary: "Make a repository",
		request:  NewBorgRepository{BorgBody: body, EncryptionMode: string(job.RepokeyBlake2)},
		failures: []job.Failure{repositoryTaken(), badEncryption(), {Code: job.Conflict, Message: "repository web1-main is declared with the encryption keyfile, not none", Hint: "leave encryption_mode out"}},
		answer: BorgRepositoryMade{
			Success: true, RepositoryPath: "/srv/borg/web1", EncryptionMode: job.RepokeyBlake2, RepositoryID: exampleRepositoryID,
			Message: "the repository was made on host web1, and is known here as web1; export its key, and keep that elsewhere",
		},
	})
	huma.Register(a.huma, made, a.borgInit)
	prune := a.borg(operation{
		id: "borg-prune", method: http.MethodPost, path: "/prune", summary: "Delete archives that no rule keeps",
		description: "Considers every archive of the repository, and is refused where several hosts have archives: if borg was never asked for all of them, that comes first. Their space is free after a compaction.",
		request:     NewBorgPrune{BorgBody: body},
		answer: BorgPruned{
			Success: true, RepositoryPath: "/srv/borg/web1", KeepPolicy: BorgKeepPolicy{KeepDaily: 7, KeepWeekly: 4, KeepMonthly: 6, KeepYearly: 2},
			Output:  "Keeping archive (rule: daily #1): web1_20261122_020000\nPruning archive (1/1): web1_20261121_020000\n",
			Message: "1 archive kept, 1 deleted; a compaction frees the space",
		},
	})
	huma.Register(a.huma, prune, a.borgPrune)
	compact := a.borg(operation{
		id: "borg-compact", method: http.MethodPost, path: "/compact", summary: "Free the space of deleted archives",
		answer: BorgCompacted{Success: true, RepositoryPath: "/srv/borg/web1", Message: "212 MB freed"},
	})
	huma.Register(a.huma, compact, a.borgCompact)
	check := a.borg(operation{
		id: "borg-check", method: http.MethodPost, path: "/check", summary: "Check a repository and its archives",
		answer:   BorgChecked{Success: true, RepositoryPath: "/srv/borg/web1", Message: "no problems found in repository and archives in 4.2 s"},
		failures: []job.Failure{{Code: job.IntegrityError, Message: "the repository is damaged: 1 chunk is lost", Hint: "the job's result lists what is damaged"}},
	})
	huma.Register(a.huma, check, a.borgCheck)
	modified := exampleTime()
	info := a.borg(operation{
		id: "borg-info", method: http.MethodGet, path: "/info", summary: "Show a repository's sizes",
		answer: BorgInfo{
			RepositoryID: exampleRepositoryID, Location: "/srv/borg/web1", LastModified: &modified, EncryptionMode: job.RepokeyBlake2,
			UniqueChunks: 2104, TotalChunks: 50212, TotalSize: 10737418240, UniqueSize: 268435456, DeduplicationRatio: 0.025,
		},
	})
	a.refuseHead(info)
	huma.Register(a.huma, info, a.borgInfo)
}
