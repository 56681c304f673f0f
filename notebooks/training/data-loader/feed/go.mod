module feed

go 1.27.0

require golang.org/x/sync v0.22.0
