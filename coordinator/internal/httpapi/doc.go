// Package httpapi is the coordinator's HTTP edge: the API below /api/v1 with
// its OpenAPI 3.1 document, its readable page and its event stream, the health
// checks, and the metrics.
//
// It translates, and decides nothing: what a request asks for is done by the
// services in [Options], and every error that they return, a *[job.Failure],
// becomes an RFC 9457 problem document with the same code and hint.
//
// [API] is also the guard of the whole server: it wraps the mux that it is
// given, so the pages that share this mux have the same protection. The guard
// finds out who asks, once for each request, and puts that into the request's
// context (fleet.ActorOf); what somebody may do is decided by the services.
package httpapi
