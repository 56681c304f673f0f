// Package lib is the other module of the workspace.
package lib

// Double is twice n.
func Double(n int) int {
	return 2 * n
}
