//go:build !linux

package cbt

// NeedSpace is not known on this system.
func NeedSpace(string, uint64) error { return nil }
