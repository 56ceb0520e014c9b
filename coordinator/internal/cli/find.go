package cli

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
)

type archiveFind struct {
	File    string `arg:"" name:"name" help:"Part of a file's name, in small or capital letters. With * or ? it must match the whole name; with a slash it is looked for in the path."`
	Repo    string `help:"Only in this repository." placeholder:"REPOSITORY" aliases:"repository"`
	Archive string `help:"Only in this archive of --repo, whose files are listed first if they are not." placeholder:"ARCHIVE"`
	Limit   int    `help:"At most this many; 1 to ${max_files}. Default: ${default}." default:"200" placeholder:"N"`
	Cursor  string `help:"Go on where the search before ended." placeholder:"CURSOR"`
	byMaker
}

// Help is the end of the command's help.
func (archiveFind) Help() string {
	return `Examples:

    borgfleet archive find nginx.conf
    borgfleet archive find 'invoice*.pdf' --repo main
    borgfleet archive find www/img/ --repo main --archive web1-2026-11-22T02:00:00

Only archives whose files are listed are searched; borgfleet archive files lists those of one.`
}

// Run runs the command.
func (c archiveFind) Run(s *session) error {
	if c.Limit < 1 || c.Limit > fleet.MaxFiles {
		return console.Usage("--limit is not between 1 and %d", fleet.MaxFiles)
	}
	if c.Archive != "" && c.Repo == "" {
		return console.Usage("--archive alone does not say which one (add --repo)")
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	var page fleet.MatchPage
	ask := func() (err error) {
		page, err = c.find(s, api)
		return err
	}
	if c.Archive != "" {
		err = s.listed(api, place{host: c.Host, repository: c.Repo, archives: []string{c.Archive}, deadlines: c.deadlines}, ask)
	} else {
		err = ask()
	}
	if err != nil {
		return err
	}
	return s.show(page, func() { s.printMatches(page, c.Repo == "") })
}

// find searches until there are as many matches as are wanted, or no more: a page
// may be short, or empty, before the last one.
func (c archiveFind) find(s *session, api *client.Client) (found fleet.MatchPage, err error) {
	found = fleet.MatchPage{Matches: []fleet.Match{}, Cursor: c.Cursor}
	for first := true; first || found.Cursor != "" && len(found.Matches) < c.Limit; first = false {
		page, err := api.Find(s.ctx, fleet.FindQuery{
			Repository: c.Repo, Archive: c.Archive, Name: c.File, Limit: c.Limit - len(found.Matches), Cursor: found.Cursor,
		})
		if err != nil {
			return found, err
		}
		found.Matches = append(found.Matches, page.Matches...)
		found.Searched, found.Cursor = page.Searched, page.Cursor
	}
	return found, nil
}

func (s *session) printMatches(page fleet.MatchPage, anyRepository bool) {
	switch {
	case len(page.Matches) == 0 && page.Searched == 0:
		s.printf("No archive's files are listed here. To list those of one: borgfleet archive files REPOSITORY ARCHIVE\n")
		return
	case len(page.Matches) == 0:
		s.printf("Nothing found in %s.\n", human.Plural(page.Searched, "listed archive"))
	}
	if len(page.Matches) > 0 {
		t := newFacts(s.Out)
		heading := []string{"ARCHIVE", "SIZE", "MODIFIED", "PATH"}
		if anyRepository {
			heading = append([]string{"REPOSITORY"}, heading...)
		}
		t.row(heading...)
		for _, m := range page.Matches {
			entry := m.File
			entry.Name = entry.Path
			cells := []string{m.Archive, human.Bytes(m.File.Size), localTime(m.File.MTime), nameOf(entry)}
			if anyRepository {
				cells = append([]string{m.Repository}, cells...)
			}
			t.row(cells...)
		}
		t.end()
	}
	if page.Cursor != "" {
		s.printf("There are more: add --cursor %s\n", page.Cursor)
	}
}
