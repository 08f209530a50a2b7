// Package plan is shared by the test service and the tests: the settings of a service with the behaviours of generations,
// the answers of the admin socket, and the marks of builds.
package plan
