package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// example is one call of the page: its heading, its curl line and its answer.
type example struct{ call, command, answer string }

func readPage(t *testing.T) (examples []example) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/operations-api.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)^(\\S+ \\S+)\n(.*?)```sh\n(.*?)```\n```json\n(.*?)```")
	for _, part := range strings.Split(string(page), "\n### ")[1:] {
		found := section.FindStringSubmatch(part)
		if found == nil {
			t.Fatalf("this section has no call, command and answer:\n%s", part)
		}
		examples = append(examples, example{found[1], found[3], strings.ReplaceAll(found[4], "…", "")})
	}
	return examples
}

var (
	addressOf = regexp.MustCompile(`\$BORGFLEET_URL(/api/v1[^" ]*)`)
	bodyOf    = regexp.MustCompile(`--json '([^']*)'`)
	headerOf  = regexp.MustCompile(`-H "(X-Borg-Passphrase): ([^"]*)"`)
)

// TestBorgPage sends every example of the documentation as curl would, and
// holds that the answers have the fields that it shows.
func TestBorgPage(t *testing.T) {
	var calls []string
	s := borgServed(t, nil)
	for _, shown := range readPage(t) {
		calls = append(calls, shown.call)
		t.Run(shown.call, func(t *testing.T) {
			method := http.MethodGet
			address, body := addressOf.FindStringSubmatch(shown.command), ""
			if found := bodyOf.FindStringSubmatch(shown.command); found != nil {
				method, body = http.MethodPost, found[1]
			}
			if _, rest, ok := strings.Cut(shown.command, "-X "); ok {
				method, _, _ = strings.Cut(rest, " ")
			}
			if !strings.HasPrefix(shown.call, method+" ") || address == nil {
				t.Fatalf("the command does not send %s: %s", shown.call, shown.command)
			}
			if at, err := url.Parse(address[1]); err != nil || !samePath(at.Path, shown.call) {
				t.Errorf("the command does not send %s, but to %s", shown.call, address[1])
			}
			s.afresh(told)
			r := request(method, address[1], body)
			if found := headerOf.FindStringSubmatch(shown.command); found != nil {
				r.Header.Set(found[1], found[2])
			}
			answer := s.do(r)
			if answer.Code != http.StatusOK {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			want, got := keysOf(t, []byte(shown.answer)), keysOf(t, answer.Body.Bytes())
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("fields (-page +answer):\n%s", diff)
			}
		})
	}
	var want []string
	for call := range borgContract {
		want = append(want, call)
	}
	slices.Sort(want)
	slices.Sort(calls)
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("calls on the page (-want +got):\n%s", diff)
	}
}

// samePath compares an address with a call, which may have a name in braces.
func samePath(address, call string) bool {
	_, path, _ := strings.Cut(call, " ")
	fixed, _, named := strings.Cut(path, "{")
	rest, ok := strings.CutPrefix(address, borgPath+fixed)
	return ok && named == (rest != "")
}

// keysOf returns the fields of an object, or of the objects of a list.
func keysOf(t *testing.T, data []byte) (keys []string) {
	t.Helper()
	value := decode[any](t, data)
	if items, ok := value.([]any); ok {
		value = items[0]
	}
	for key := range value.(object) {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if !json.Valid(data) || len(keys) == 0 {
		t.Errorf("no object: %s", data)
	}
	return keys
}
