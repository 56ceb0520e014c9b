package manifest

import "strings"

// nearest returns the word that somebody may have meant; empty if none is near.
func nearest(typed string, words []string) string {
	best, least := "", 1+max(1, len(typed)/3)
	plain := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(typed))
	for _, word := range words {
		distance := edits(typed, word)
		if strings.NewReplacer("-", "", "_", "").Replace(word) == plain {
			distance = 0
		}
		if distance < least {
			best, least = word, distance
		}
	}
	return best
}

// edits counts the letters to insert, delete, replace or swap with the next one
// between two words.
func edits(one, other string) int {
	before, last := make([]int, len(other)+1), make([]int, len(other)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(one); i++ {
		row := make([]int, len(other)+1)
		row[0] = i
		for j := 1; j <= len(other); j++ {
			cost := 1
			if one[i-1] == other[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && one[i-1] == other[j-2] && one[i-2] == other[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(other)]
}
