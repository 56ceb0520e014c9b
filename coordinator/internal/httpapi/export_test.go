package httpapi

// Texts is texts, for the test that none is missing and none left over.
func Texts() map[string]string { return texts() }
