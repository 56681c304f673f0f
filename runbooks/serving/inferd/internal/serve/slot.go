package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"noble-runbooks/inferd/internal/batch"
	"noble-runbooks/inferd/internal/model"
	"noble-runbooks/inferd/internal/oip"
)

// errDown is the answer while a model is not loaded.
var errDown = errors.New("the model is not loaded")

// Slot is a model under its name. What runs in it can be replaced while it is asked.
type Slot struct {
	Name    string
	load    func() (model.Model, error)
	options batch.Options
	watcher batch.Watcher

	loading sync.Mutex   // one reload at a time
	mu      sync.RWMutex // held for writing while current is replaced
	current *generation
}

// generation is one loading of a model, with those who use it.
type generation struct {
	number  int
	model   model.Model
	batcher *batch.Batcher
	users   sync.WaitGroup
}

// NewSlot is a model that is not loaded yet; load brings it.
func NewSlot(name string, load func() (model.Model, error), options batch.Options, watcher batch.Watcher) *Slot {
	return &Slot{Name: name, load: load, options: options, watcher: watcher}
}

// Load brings the model, tries it, and puts it in the place of the one before, which answers what it
// was asked and is closed then. If anything fails the one before stays.
func (s *Slot) Load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	m, err := s.load()
	if err != nil {
		return err
	}
	next := &generation{number: 1, model: m}
	if previous := s.peek(); previous != nil {
		next.number = previous.number + 1
		if !previous.model.Signature().Equal(m.Signature()) {
			return errors.Join(m.Close(), fmt.Errorf(
				"model %s now has other inputs or outputs; its clients would fail: "+
					"serve it under another name", s.Name))
		}
	}
	if err := tryOut(ctx, m); err != nil {
		return errors.Join(m.Close(), fmt.Errorf("model %s fails on zeros: %w", s.Name, err))
	}
	next.batcher = batch.New(m, s.options, s.watcher)
	s.replace(next)
	return nil
}

// Close takes the model down once those who use it have their answers.
func (s *Slot) Close() {
	s.loading.Lock()
	defer s.loading.Unlock()
	s.replace(nil)
}

// Infer arranges the inputs, waits for its batch and returns the outputs that are wanted.
func (s *Slot) Infer(ctx context.Context, request *oip.Request) (*oip.Response, error) {
	g := s.use()
	if g == nil {
		return nil, errDown
	}
	defer g.users.Done()
	signature := g.model.Signature()
	inputs, err := signature.Arrange(request.Inputs)
	if err == nil {
		err = signature.CheckWanted(request.Outputs)
	}
	if err != nil {
		return nil, &badRequest{err}
	}
	outputs, err := g.batcher.Run(ctx, inputs)
	if err != nil {
		return nil, err
	}
	return &oip.Response{
		Model: s.Name, Version: g.version(), ID: request.ID,
		Outputs: signature.Choose(outputs, request.Outputs),
	}, nil
}

// Signature is that of the loaded model, with its version; nil if none is.
func (s *Slot) Signature() (*model.Signature, string) {
	if g := s.peek(); g != nil {
		return g.model.Signature(), g.version()
	}
	return nil, ""
}

// Waiting is how many requests are in the queue.
func (s *Slot) Waiting() int {
	if g := s.peek(); g != nil {
		return g.batcher.Waiting()
	}
	return 0
}

func (g *generation) version() string { return fmt.Sprint(g.number) }

func (s *Slot) peek() *generation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// use returns the current generation, which stays open until its users are done.
func (s *Slot) use() *generation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.current != nil {
		s.current.users.Add(1)
	}
	return s.current
}

func (s *Slot) replace(next *generation) {
	s.mu.Lock()
	previous := s.current
	s.current = next
	s.mu.Unlock()
	if previous == nil {
		return
	}
	previous.users.Wait()
	previous.batcher.Close()
	if err := previous.model.Close(); err != nil {
		slog.Error("a model cannot be closed", "model", s.Name, "error", err)
	}
}

// tryOut runs the model once, with zeros and one row, so that what fails at the first run fails here.
func tryOut(ctx context.Context, m model.Model) error {
	var inputs []oip.Tensor
	for _, port := range m.Signature().Inputs {
		tensor := oip.Tensor{Name: port.Name, Datatype: port.Datatype}
		for _, size := range port.Shape {
			tensor.Shape = append(tensor.Shape, max(size, 1))
		}
		elements, err := oip.Elements(tensor.Shape)
		if err != nil {
			return err
		}
		tensor.Raw = make([]byte, elements*int64(port.Datatype.Size()))
		inputs = append(inputs, tensor)
	}
	_, err := m.Run(ctx, inputs)
	return err
}
