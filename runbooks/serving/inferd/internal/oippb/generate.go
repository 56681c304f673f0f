// Package oippb is generated from oip.proto; generate.go says how.
package oippb

// protoc comes with Python's grpcio-tools: pip install grpcio-tools==1.85.1
//go:generate go build -o ../../build/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
//go:generate python3 -m grpc_tools.protoc --plugin=../../build/protoc-gen-go --plugin=../../build/protoc-gen-go-grpc --proto_path=. --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative oip.proto
