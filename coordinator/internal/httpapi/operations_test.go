package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

const borgPath = "/api/v1/backups/borg"

// borgContract is the table of the contract: each call, its request field by
// field (a star: needed; what follows the equals sign: the default), and its
// reply field by field.
var borgContract = map[string]struct{ request, reply string }{
	"POST /init":                      {"repository_path:string*, passphrase:string, encryption_mode:string", "success:boolean, repository_path:string, encryption_mode:string, repository_id:string, message:string"},
	"POST /create":                    {"archive_name:string*, source_paths:array*, repository_path:string*, passphrase:string, compression:string=lz4, exclude_patterns:array", "success:boolean, archive_name:string, original_size:integer, compressed_size:integer, deduplicated_size:integer, nfiles:integer, compression_ratio:number, deduplication_ratio:number, duration:number, error:string"},
	"GET /archives":                   {"repository_path:string*, passphrase:string, prefix:string", "name:string, archive:string, time:string, hostname:string, username:string, id:string"},
	"POST /extract/{archive_name}":    {"archive_name:string, target_path:string*, repository_path:string*, passphrase:string, paths:array", "success:boolean, archive_name:string, target_path:string, message:string"},
	"DELETE /archives/{archive_name}": {"repository_path:string*, passphrase:string", "success:boolean, archive_name:string, message:string"},
	"POST /prune":                     {"repository_path:string*, passphrase:string, keep_hourly:integer=0, keep_daily:integer=7, keep_weekly:integer=4, keep_monthly:integer=6, keep_yearly:integer=2", "success:boolean, repository_path:string, keep_policy:object, output:string, message:string"},
	"POST /compact":                   {"repository_path:string*, passphrase:string", "success:boolean, repository_path:string, message:string"},
	"POST /check":                     {"repository_path:string*, passphrase:string, verify_data:boolean=false", "success:boolean, repository_path:string, verify_data:boolean, message:string"},
	"POST /mount":                     {"archive_name:string, mount_point:string*, repository_path:string*, passphrase:string", "success:boolean, archive_name:string, mount_point:string, pid:integer, message:string"},
	"POST /umount":                    {"mount_point:string*", "success:boolean, mount_point:string, message:string"},
	"GET /info":                       {"repository_path:string*, passphrase:string", "repository_id:string, location:string, last_modified:string, encryption_mode:string, unique_chunks:integer, total_chunks:integer, total_size:integer, unique_size:integer, deduplication_ratio:number"},
}

// fieldsOf writes the properties of a schema as the table does.
func fieldsOf(document object, schema any, withNeeds bool) (fields []string) {
	if ref, ok := at(schema, "$ref").(string); ok {
		schema = resolve(document, ref)
	}
	for name, property := range at(schema, "properties").(object) {
		text := name + ":" + typeOf(document, property)
		if withNeeds && slices.Contains(asList(at(schema, "required")), any(name)) {
			text += "*"
		}
		if value := at(property, "default"); withNeeds && value != nil {
			text += fmt.Sprintf("=%v", value)
		}
		fields = append(fields, text)
	}
	return fields
}

func typeOf(document object, property any) string {
	if ref, ok := at(property, "$ref").(string); ok {
		property = resolve(document, ref)
	}
	kind := at(property, "type")
	if several := asList(kind); len(several) > 0 {
		kind = several[0] // the other one is null
	}
	return fmt.Sprint(kind)
}

// TestBorgDocumentIsTheContract holds that the document has the eleven calls
// with the contract's fields, and no other.
func TestBorgDocumentIsTheContract(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	found := 0
	operations(document, func(name string, op object) {
		call, isBorg := strings.CutPrefix(strings.Replace(name, " /backups/borg", " ", 1), "")
		if !isBorg || !strings.Contains(name, "/backups/borg/") {
			return
		}
		found++
		contract, known := borgContract[call]
		if !known {
			t.Errorf("%s is not in the contract", call)
			return
		}
		if diff := cmp.Diff([]any{"Borg operations"}, op["tags"]); diff != "" {
			t.Errorf("%s: tags %s", call, diff)
		}
		want := append(strings.Split(contract.request, ", "), "host:string")
		var got []string
		if body := op["requestBody"]; body != nil {
			got = fieldsOf(document, at(body, "content", "application/json", "schema"), true)
		}
		for _, parameter := range asList(op["parameters"]) {
			if at(parameter, "in") == "query" {
				text := fmt.Sprintf("%v:%v", at(parameter, "name"), typeOf(document, at(parameter, "schema")))
				if at(parameter, "required") == true {
					text += "*"
				}
				if value := at(parameter, "schema", "default"); value != nil {
					text += fmt.Sprintf("=%v", value)
				}
				got = append(got, text)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: request (-want +got):\n%s", call, diff)
		}
		answer := at(op, "responses", "200", "content", "application/json", "schema")
		if at(answer, "type") == "array" {
			answer = at(answer, "items")
		}
		want, got = strings.Split(contract.reply, ", "), fieldsOf(document, answer, false)
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: reply (-want +got):\n%s", call, diff)
		}
		if at(op, "responses", "202", "content", "application/json", "schema", "$ref") != "#/components/schemas/Job" {
			t.Errorf("%s does not document 202 with the job", call)
		}
	})
	if found != len(borgContract) {
		t.Errorf("%d calls, want %d", found, len(borgContract))
	}
}

const knownRepository = `"repository_path":"main","passphrase":"correct horse"`

// TestBorgCalls sends each call with what it needs and no more, and compares
// the job that it becomes and the whole reply.
func TestBorgCalls(t *testing.T) {
	s := borgServed(t, nil)
	query := "?repository_path=main&passphrase=correct+horse"
	for call, test := range map[string]struct{ method, path, body, spec, reply string }{
		"init": {
			"POST", "/init", `{"repository_path":"/srv/borg/new","passphrase":"correct horse"}`, `init {"encryption":"repokey-blake2"}`,
			`{"success":true,"repository_path":"/srv/borg/new","encryption_mode":"repokey-blake2","repository_id":"aa8e","message":"the repository was made on host web1, and is known here as new; export its key, and keep that elsewhere"}`,
		},
		"init without encryption": {
			"POST", "/init", `{"repository_path":"/srv/borg/new","passphrase":"correct horse","encryption_mode":"none"}`, `init {"encryption":"none"}`,
			`{"success":true,"repository_path":"/srv/borg/new","encryption_mode":"none","repository_id":"aa8e","message":"the repository was made on host web1 without encryption, and is known here as new"}`,
		},
		"create": {
			"POST", "/create", `{"archive_name":"web1",` + knownRepository + `,"source_paths":["/etc"]}`, `backup {"paths":["/etc"],"compression":"lz4","archive":"web1_STAMP"}`,
			`{"success":true,"archive_name":"web1_STAMP","original_size":1000,"compressed_size":500,"deduplicated_size":250,"nfiles":3,"compression_ratio":0.5,"deduplication_ratio":0.25,"duration":1.5,"error":""}`,
		},
		"create with everything": {
			"POST", "/create", `{"host":"web1","archive_name":"a",` + knownRepository + `,"source_paths":["/etc","/srv"],"compression":"auto,zstd,9","exclude_patterns":["*.log"]}`,
			`backup {"paths":["/etc","/srv"],"exclude":["*.log"],"compression":"auto,zstd,9","archive":"a_STAMP"}`,
			`{"success":true,"archive_name":"a_STAMP","original_size":1000,"compressed_size":500,"deduplicated_size":250,"nfiles":3,"compression_ratio":0.5,"deduplication_ratio":0.25,"duration":1.5,"error":""}`,
		},
		"archives": {
			"GET", "/archives" + query + "&prefix=web1", "", `list {"prefix":"web1"}`,
			`[{"name":"web1_20261122_020000","archive":"web1_20261122_020000","time":"2026-11-22T02:00:00Z","hostname":"web1","username":"root","id":"5e5e"}]`,
		},
		"extract": {
			"POST", "/extract/web1_1", `{"archive_name":"web1_1","target_path":"/restore/x",` + knownRepository + `,"paths":["etc/hosts"]}`, `restore {"archive":"web1_1","target":"/restore/x","paths":["etc/hosts"]}`,
			`{"success":true,"archive_name":"web1_1","target_path":"/restore/x","message":"1 path restored to /restore/x on host web1"}`,
		},
		"extract all": {
			"POST", "/extract/web1_1", `{"target_path":"/restore/x",` + knownRepository + `}`, `restore {"archive":"web1_1","target":"/restore/x"}`,
			`{"success":true,"archive_name":"web1_1","target_path":"/restore/x","message":"everything restored to /restore/x on host web1"}`,
		},
		"delete": {
			"DELETE", "/archives/web1_1" + query, "", `delete {"archives":["web1_1"]}`,
			`{"success":true,"archive_name":"web1_1","message":"1 archive deleted; a compaction frees the space"}`,
		},
		"prune": {
			"POST", "/prune", `{` + knownRepository + `}`, `prune {"keep_daily":7,"keep_weekly":4,"keep_monthly":6,"keep_yearly":2,"all":true,"confirmed":true}`,
			`{"success":true,"repository_path":"main","keep_policy":{"keep_hourly":0,"keep_daily":7,"keep_weekly":4,"keep_monthly":6,"keep_yearly":2},` +
				`"output":"Keeping archive (rule: daily #1): web1-3\nKeeping archive: web1-1\nKeeping 2 archives more\nPruning archive (1/2): web1-2\nPruning 1 archive more\n",` +
				`"message":"4 archives kept, 2 deleted; a compaction frees the space"}`,
		},
		"prune with zeros": {
			"POST", "/prune", `{` + knownRepository + `,"keep_hourly":1,"keep_daily":0,"keep_weekly":0,"keep_monthly":0,"keep_yearly":0}`, `prune {"keep_hourly":1,"all":true,"confirmed":true}`,
			`{"success":true,"repository_path":"main","keep_policy":{"keep_hourly":1,"keep_daily":0,"keep_weekly":0,"keep_monthly":0,"keep_yearly":0},` +
				`"output":"Keeping archive (rule: daily #1): web1-3\nKeeping archive: web1-1\nKeeping 2 archives more\nPruning archive (1/2): web1-2\nPruning 1 archive more\n",` +
				`"message":"4 archives kept, 2 deleted; a compaction frees the space"}`,
		},
		"compact": {"POST", "/compact" + query, "", `compact {}`, `{"success":true,"repository_path":"main","message":"212 MB freed"}`},
		"check":   {"POST", "/check" + query, "", `check {}`, `{"success":true,"repository_path":"main","verify_data":false,"message":"no problems found in repository and archives in 2 s"}`},
		"check data": {
			"POST", "/check" + query + "&verify_data=true", "", `check {"verify_data":true}`,
			`{"success":true,"repository_path":"main","verify_data":true,"message":"no problems found in repository and archives; all data was read and verified in 2 s"}`,
		},
		"mount": {
			"POST", "/mount", `{"mount_point":"/restore/mnt",` + knownRepository + `}`, `mount {"mount_point":"/restore/mnt"}`,
			`{"success":true,"archive_name":"","mount_point":"/restore/mnt","pid":4711,"message":"mounted at /restore/mnt on host web1, until it is unmounted or was not used for 30 min; no archive can be made meanwhile"}`,
		},
		"mount an archive": {
			"POST", "/mount", `{"archive_name":"web1_1","mount_point":"/restore/mnt",` + knownRepository + `}`, `mount {"archive":"web1_1","mount_point":"/restore/mnt"}`,
			`{"success":true,"archive_name":"web1_1","mount_point":"/restore/mnt","pid":4711,"message":"mounted at /restore/mnt on host web1, until it is unmounted or was not used for 30 min; no archive can be made meanwhile"}`,
		},
		"umount": {"POST", "/umount?mount_point=/restore/mnt", "", `umount {"mount_point":"/restore/mnt"}`, `{"success":true,"mount_point":"/restore/mnt","message":"unmounted /restore/mnt on host web1"}`},
		"info": {
			"GET", "/info" + query, "", `info {}`,
			`{"repository_id":"aa8e","location":"/srv/borg/main","last_modified":"2026-11-22T02:00:00Z","encryption_mode":"repokey","unique_chunks":7,"total_chunks":9,"total_size":4000,"unique_size":1000,"deduplication_ratio":0.25}`,
		},
	} {
		t.Run(call, func(t *testing.T) {
			s.afresh(told)
			answer := s.do(request(test.method, borgPath+test.path, test.body))
			if answer.Code != http.StatusOK {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			j := s.jobs[0]
			if answer.Header().Get("Borgfleet-Job") != string(j.ID) || j.SubmittedBy != "operator:local" || j.Host != "web1" {
				t.Errorf("job %+v, header %q", j, answer.Header().Get("Borgfleet-Job"))
			}
			spec, err := json.Marshal(j.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.spec, unstamped(fmt.Sprintf("%s %s", j.Kind, spec))); diff != "" {
				t.Errorf("job (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(decode[any](t, []byte(test.reply)), decode[any](t, []byte(unstamped(answer.Body.String())))); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

// unstamped replaces the time in the names of archives that are made.
func unstamped(text string) string {
	return regexp.MustCompile(`(web1|a)_20[0-9]{6}_[0-9]{6}"`).ReplaceAllStringFunc(text, func(name string) string {
		if strings.Contains(name, "web1_20261122_020000") {
			return name
		}
		before, _, _ := strings.Cut(name, "_")
		return before + `_STAMP"`
	})
}

func TestBorgWarnings(t *testing.T) {
	warned := func(j job.Job) job.Job {
		j = told(j)
		j.State, j.Result.Warnings, j.Result.WarningsOmitted = job.Warning, []string{"/etc/shadow: permission denied", "/srv: file changed"}, 3
		return j
	}
	s := serve(t, nil)
	s.put("web1", "main")
	s.borg.play = warned
	made := decode[object](t, s.do(request("POST", borgPath+"/create", `{"archive_name":"web1",`+knownRepository+`,"source_paths":["/etc"]}`)).Body.Bytes())
	if made["success"] != true || made["error"] != "/etc/shadow: permission denied\n/srv: file changed\nand 3 more" {
		t.Errorf("create: %v", made)
	}
	compacted := decode[object](t, s.do(request("POST", borgPath+"/compact?repository_path=main", "")).Body.Bytes())
	if compacted["message"] != "212 MB freed; 5 warnings, the first: /etc/shadow: permission denied" {
		t.Errorf("compact: %v", compacted)
	}
}

// TestBorgLongList lists more archives than one job's result holds.
func TestBorgLongList(t *testing.T) {
	archive := func(n int) job.Archive {
		return job.Archive{Name: fmt.Sprintf("a-%d", n), ID: fmt.Sprint(n), Start: exampleDay.AddDate(0, 0, n)}
	}
	s := serve(t, nil)
	s.put("web1", "main")
	s.borg.play = func(j job.Job) job.Job {
		var result job.Result
		spec := j.Spec.(job.ListSpec)
		for n := 9; n >= 0; n-- {
			switch {
			case !spec.Before.IsZero() && !archive(n).Start.Before(spec.Before):
			case len(result.Archives) == 4:
				result.ArchivesOmitted++
			default:
				result.Archives = slices.Insert(result.Archives, 0, archive(n))
			}
		}
		return ended(j, result)
	}
	got := decode[[]object](t, s.do(request("GET", borgPath+"/archives?repository_path=main&prefix=a", "")).Body.Bytes())
	var names []string
	for _, archive := range got {
		names = append(names, fmt.Sprint(archive["name"]))
	}
	if want := "[a-0 a-1 a-2 a-3 a-4 a-5 a-6 a-7 a-8 a-9]"; fmt.Sprint(names) != want {
		t.Errorf("got %v, want %s", names, want)
	}
	if len(s.jobs) != 3 || s.jobs[2].Spec.(job.ListSpec).Prefix != "a" {
		t.Errorf("%d jobs", len(s.jobs))
	}
}
