package job

import (
	"path"
	"slices"
	"strings"
)

// SameLocation reports whether two locations are certainly one place, on one host:
// written with other slashes, or with the port that ssh takes anyway. Two names of
// a server, or a link, it cannot know of.
func SameLocation(one, other string) bool {
	return one == other || plainLocation(one) == plainLocation(other)
}

// Place writes a location in the one way in which all that are the same, by
// [SameLocation], are written.
func Place(location string) string { return plainLocation(location) }

// plainLocation writes a location in the one way in which all that are the same
// are written. What ".." leads to, links may change.
func plainLocation(location string) string {
	if slices.Contains(strings.Split(location, "/"), "..") {
		return location
	}
	if strings.HasPrefix(location, "/") {
		return path.Clean(location)
	}
	server := sshServer.FindString(location)
	if server == "" {
		return location
	}
	place := location[len(server):]
	switch {
	case strings.HasPrefix(place, "/./"): // below the home directory
		place = "/." + path.Clean("/"+place[2:])
	case strings.HasPrefix(place, "/~"): // below somebody's
		place = path.Clean(place)
	default:
		place = path.Clean("/" + place)
	}
	user, host, named := strings.Cut(server[len("ssh://"):], "@")
	if !named {
		user, host = "", user
	}
	return "ssh://" + user + "@" + strings.TrimSuffix(strings.ToLower(host), ":22") + place
}
