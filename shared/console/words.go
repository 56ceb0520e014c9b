package console

import (
	"strings"

	"github.com/alecthomas/kong"
)

// words stand for ${name} in the helps and enums of flags and arguments. As
// kong's own variables each of them would be interpolated anew for every flag,
// which took most of the time before a command began.
func words(named map[string]string) kong.Option {
	var pairs []string
	for name, word := range named {
		pairs = append(pairs, "${"+name+"}", word)
	}
	replacer := strings.NewReplacer(pairs...)
	return kong.PostBuild(func(k *kong.Kong) error {
		return kong.Visit(k.Model.Node, func(node kong.Visitable, next kong.Next) error {
			if value, ok := node.(*kong.Value); ok {
				value.Help, value.Enum = replacer.Replace(value.Help), replacer.Replace(value.Enum)
			}
			return next(nil)
		})
	})
}
