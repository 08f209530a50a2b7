// Package service tries canary/subprocess in a whole service: with a rollout and its judge, and in a host that is upgraded and
// killed. It has tests only.
package service
