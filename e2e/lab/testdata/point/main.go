// Command point comes to a test point for each line that it reads, and then
// prints the time.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"github.com/borgfleet/borgfleet/shared/fault"
)

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fault.Point(lines.Text())
		fmt.Println(fault.Now().Format(time.RFC3339Nano))
	}
}
