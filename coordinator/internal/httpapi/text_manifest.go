package httpapi

// manifestTexts describes what a manifest changes.
func manifestTexts() map[string]string {
	return map[string]string{
		"ManifestText.manifest": "the text of fleet.yaml",
		"changes":               "what changes, or would",
		"needs":                 "files whose content has to come with the manifest",
		"unknown":               "SSH servers whose host keys nobody has said yet: POST /ssh/scan shows them, a person compares them, and they come with the manifest",
		"applied":               "whether it was changed",
		"ManifestChange.action": "add, change or remove",
		"ManifestChange.object": "host/web1, repository/main, plan/daily, target/ops or rule/all",
		"ManifestChange.fields": "of a change: each field, what it was, and what it is to be",
		"UnknownServer.host":    "the host whose servers they are",
		"UnknownServer.address": "user@host:port",
		"UnknownServer.jump":    "servers on the way, the first one first; without keys where those are not known either",
	}
}
