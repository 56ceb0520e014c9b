package httpapi

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// kindName is a job's kind. The document lists the kinds; checking them is left
// to the job service, whose error is better.
type kindName string

// Schema implements huma.SchemaProvider.
func (kindName) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{"enum": words(job.Kinds())}}
}

// kindFilter is a kind that jobs are chosen by. It is checked against the kinds
// that there are.
type kindFilter string

// Schema implements huma.SchemaProvider.
func (kindFilter) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: words(job.Kinds())}
}

// stateFilter is a state that jobs are chosen by, checked likewise.
type stateFilter string

// Schema implements huma.SchemaProvider.
func (stateFilter) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: words(job.States())}
}

// specBody is a spec that is not decoded yet. The document lists the specs of
// all kinds; decoding by kind is left to the job service, as on the bus.
type specBody struct{ json.RawMessage }

// Schema implements huma.SchemaProvider. What stands in Extensions is for the
// document only, and not checked by huma.
func (specBody) Schema(registry huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Extensions: map[string]any{"anyOf": specSchemas(registry)}}
}

// specTypes are the types of the specs by kind.
func specTypes() map[job.Kind]reflect.Type {
	types := map[job.Kind]reflect.Type{}
	for _, spec := range []job.Spec{
		job.InitSpec{}, job.BackupSpec{}, job.ListSpec{}, job.InfoSpec{}, job.RestoreSpec{},
		job.PruneSpec{}, job.CompactSpec{}, job.CheckSpec{}, job.BreakLockSpec{}, job.KeyExportSpec{},
		job.DeleteSpec{}, job.MountSpec{}, job.UmountSpec{}, job.DiffSpec{}, job.VerifySpec{}, job.DownloadSpec{}, job.RestoreTestSpec{},
	} {
		types[spec.Kind()] = reflect.TypeOf(spec)
	}
	return types
}

func specSchemas(registry huma.Registry) []*huma.Schema {
	types := specTypes()
	var schemas []*huma.Schema
	for _, kind := range job.Kinds() {
		schemas = append(schemas, registry.Schema(types[kind], true, string(kind)))
	}
	return schemas
}

// refine makes the schemas say all that is true of what is answered, beyond
// what huma reads from the types: which objects may be null, what a spec is,
// which words there are, and what each field means.
func refine(registry huma.Registry) {
	for name, schema := range registry.Map() {
		refineObject(name, schema, registry.TypeFromRef(schemaPrefix+name))
	}
	if shape := registry.Map()["Job"]; shape != nil {
		shape.Properties["spec"] = &huma.Schema{
			Extensions:  map[string]any{"anyOf": specSchemas(registry)},
			Description: "the details; which fields there are follows from the kind",
		}
	}
	refinePlans(registry.Map())
	describe(registry.Map())
}

const schemaPrefix = "#/components/schemas/"

// schemaName names a schema by its type, without its package.
func schemaName(t reflect.Type, hint string) string {
	switch t {
	case reflect.TypeFor[job.Page]():
		return "JobPage"
	case reflect.TypeFor[job.Event]():
		return "JobEvent"
	case reflect.TypeFor[fleet.Archive]():
		return "KnownArchive"
	default:
		return huma.DefaultSchemaNamer(t, hint)
	}
}

// strict reports whether a schema is of something that is taken in, where an
// unknown field is refused. What is given out may get more fields.
func strict(name string) bool {
	return name == "SubmitJob" || name == "ChangeRepository" || name == "ChangeHost" || name == "SealedPassphrase" ||
		strings.HasPrefix(name, "New") || strings.HasSuffix(name, "Spec")
}

func refineObject(name string, schema *huma.Schema, object reflect.Type) {
	if !strict(name) {
		schema.AdditionalProperties = nil
	}
	for _, field := range reflect.VisibleFields(object) {
		jsonName, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		property := schema.Properties[jsonName]
		if field.Anonymous || property == nil {
			continue
		}
		property.Nullable = property.Nullable && field.Type.Kind() == reflect.Pointer
		isObject := field.Type.Kind() == reflect.Pointer && property.Ref != ""
		if isObject && !strings.Contains(options, "omitempty") {
			schema.Properties[jsonName] = &huma.Schema{
				Description: property.Description,
				Extensions:  map[string]any{"anyOf": []*huma.Schema{{Ref: property.Ref}, {Type: "null"}}},
			}
			property = schema.Properties[jsonName]
		}
		if words := wordsOf(field.Type); words != nil && name != "SubmitJob" && jsonName != "last_run" { // which may be empty
			target := property
			if property.Items != nil {
				target = property.Items
			}
			target.Extensions = map[string]any{"enum": words}
		}
	}
}

// wordsOf returns the words of a type that has a fixed set of them.
func wordsOf(t reflect.Type) []any {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[job.State]():
		return words(job.States())
	case reflect.TypeFor[job.Kind]():
		return words(job.Kinds())
	case reflect.TypeFor[job.EventType]():
		return words([]job.EventType{
			job.EventQueued, job.EventSent, job.EventAccepted, job.EventStarted,
			job.EventLog, job.EventFinished, job.EventRetried, job.EventCancelled,
		})
	case reflect.TypeFor[bus.Role]():
		return words(bus.Roles())
	case reflect.TypeFor[fleet.Custody]():
		return words([]fleet.Custody{fleet.CustodyCoordinator, fleet.CustodyHosts})
	case reflect.TypeFor[fleet.Mode]():
		return words([]fleet.Mode{fleet.ModeAgent, fleet.ModeSSH, fleet.ModeLocal})
	case reflect.TypeFor[job.Level]():
		return words([]job.Level{job.LevelDebug, job.LevelInfo, job.LevelWarning, job.LevelError})
	case reflect.TypeFor[job.FilesCache]():
		return words(job.FilesCaches())
	case reflect.TypeFor[job.DownloadFormat]():
		return words([]job.DownloadFormat{job.DownloadTar, job.DownloadFile})
	case reflect.TypeFor[fleet.FileType]():
		return words([]fleet.FileType{
			fleet.RegularFile, fleet.Directory, fleet.SymLink, fleet.HardLink,
			fleet.Fifo, fleet.CharDevice, fleet.BlockDevice, fleet.Socket,
		})
	default:
		return planWords(t)
	}
}

func words[T ~string](all []T) []any {
	texts := make([]any, len(all))
	for i, word := range all {
		texts[i] = string(word)
	}
	return texts
}

// describe gives every property without a description the one in the texts: by
// its schema and name, else by its name alone.
func describe(schemas map[string]*huma.Schema) {
	known := texts()
	for name, schema := range schemas {
		for field, property := range schema.Properties {
			if property.Description == "" {
				property.Description = cmp.Or(known[name+"."+field], planText(known, name, field), known[field])
			}
		}
	}
}
