// Package vendors runs one table of flags through the products for feature flags that people use: LaunchDarkly, ConfigCat, flagd,
// GO Feature Flag, Unleash and Split. The table is written in the format of each product. No test needs a network. The package is
// in a module of its own, so that no product comes into the module graph of a user.
package vendors
