package fleet

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var sizeForm = regexp.MustCompile(`^([0-9]{1,19}(?:\.[0-9]{1,3})?) ?([KMGTP]?)(i?)B?$`)

// Bytes returns how many bytes a size is; 0 when it is empty. K, M, G, T and P
// are powers of 1000, Ki, Mi, Gi, Ti and Pi of 1024. The error says how to write
// one.
func (s Size) Bytes() (int64, error) {
	if s == "" {
		return 0, nil
	}
	match := sizeForm.FindStringSubmatch(strings.TrimSpace(string(s)))
	if match == nil || match[3] != "" && match[2] == "" {
		return 0, fmt.Errorf("%q is not a size: write it like 500G, 20MB or 1GiB", string(s))
	}
	base := 1000.0
	if match[3] != "" {
		base = 1024
	}
	number, err := strconv.ParseFloat(match[1], 64)
	exponent := strings.Index("KMGTP", match[2]) + 1
	if match[2] == "" {
		exponent = 0
	}
	bytes := number * math.Pow(base, float64(exponent))
	if err != nil || bytes >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", string(s))
	}
	return int64(bytes), nil
}

// SizeOf writes a number of bytes as people write it, without losing any of it.
// 0 is empty.
func SizeOf(bytes int64) Size {
	if bytes == 0 {
		return ""
	}
	for _, unit := range []struct {
		base int64
		mark string
	}{{1000, ""}, {1024, "i"}} {
		number, letter := bytes, ""
		for _, next := range "KMGTP" {
			if number%unit.base != 0 {
				break
			}
			number, letter = number/unit.base, string(next)
		}
		if letter != "" {
			return Size(strconv.FormatInt(number, 10) + letter + unit.mark)
		}
	}
	return Size(strconv.FormatInt(bytes, 10))
}
