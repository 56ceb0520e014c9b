package web_test

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

// Every text colour stands out from every background that it is used on, by
// WCAG's 4.5 to 1; what is not text, such as bars and borders of fields, by
// 3 to 1. The pairs are those of page.css.
func TestContrast(t *testing.T) {
	colours := palette(t)
	text := [][2]string{
		{"text", "bg"}, {"text", "surface"}, {"muted", "bg"}, {"muted", "surface"}, {"text", "idle-bg"}, {"muted", "idle-bg"},
		{"ok", "ok-bg"}, {"run", "run-bg"}, {"warn", "warn-bg"}, {"fail", "fail-bg"}, {"idle", "idle-bg"},
		{"text", "fail-bg"}, {"text", "warn-bg"}, {"muted", "warn-bg"}, {"warn", "surface"}, {"fail", "surface"}, {"on-accent", "accent"},
	}
	marks := [][2]string{
		{"ok", "surface"}, {"run", "idle-bg"}, {"run", "surface"}, {"warn", "surface"}, {"fail", "surface"}, {"edge", "surface"}, {"accent", "surface"}, {"accent", "bg"},
	}
	for scheme, name := range []string{"light", "dark"} {
		for _, pair := range text {
			if got := contrast(colours[pair[0]][scheme], colours[pair[1]][scheme]); got < 4.5 {
				t.Errorf("%s: text %s on %s has a contrast of %.2f, want at least 4.5", name, pair[0], pair[1], got)
			}
		}
		for _, pair := range marks {
			if got := contrast(colours[pair[0]][scheme], colours[pair[1]][scheme]); got < 3 {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want at least 3", name, pair[0], pair[1], got)
			}
		}
	}
}

// palette reads the light and dark value of each colour from the style sheet.
func palette(t *testing.T) map[string][2]float64 {
	t.Helper()
	definition := regexp.MustCompile(`--([a-z-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);`)
	colours := map[string][2]float64{}
	for _, match := range definition.FindAllStringSubmatch(static(t, "page.css"), -1) {
		colours[match[1]] = [2]float64{luminance(t, match[2]), luminance(t, match[3])}
	}
	if len(colours) < 15 {
		t.Fatalf("found only %d colours in page.css", len(colours))
	}
	return colours
}

// luminance is WCAG's relative luminance of an sRGB colour.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	total := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		total += weight * c
	}
	return total
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }
