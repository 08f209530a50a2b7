// Hello prints the version that it was linked with.
package main

import "fmt"

var version = "dev"

func main() { fmt.Println("version", version) }
