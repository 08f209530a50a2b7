package process_test

import "github.com/midair-go/midair/internal/process"

func init() { playStubborn = process.PlayStubborn }
