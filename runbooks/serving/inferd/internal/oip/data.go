package oip

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// parseData reads the member "data" of a tensor: all elements in one array, or arrays nested as the
// shape says. The text must be valid JSON; encoding/json has seen to that before it hands it on.
//
// A decoder of its own, as encoding/json takes several times as long for an array of numbers, and
// reading these is most of what a request costs beside the model.
func parseData(text []byte, datatype Datatype, shape []int64) ([]byte, error) {
	elements, err := Elements(shape)
	if err != nil {
		return nil, err
	}
	// An element takes two characters at least: no shape makes this allocate more than was sent.
	if elements > int64(len(text)) {
		return nil, fmt.Errorf("data has too few elements for shape %v", shape)
	}
	depth := opening(text)
	if depth == 0 {
		return nil, fmt.Errorf("data is not an array")
	}
	if depth != 1 && depth != len(shape) {
		return nil, fmt.Errorf("data is nested %d deep, but shape %v has %d dimensions",
			depth, shape, len(shape))
	}
	nested := depth > 1
	counts := make([]int64, depth+1) // of the members of the array that is open at each depth
	raw := make([]byte, 0, elements*int64(datatype.Size()))
	level := 0
	for at := 0; at < len(text); {
		switch c := text[at]; c {
		case ' ', '\t', '\r', '\n', ',':
			at++
		case '[':
			level++
			if level > depth {
				return nil, fmt.Errorf("data is not nested alike everywhere")
			}
			counts[level] = 0
			at++
		case ']':
			if nested && counts[level] != shape[level-1] {
				return nil, fmt.Errorf("data has %d members in dimension %d, but shape is %v",
					counts[level], level-1, shape)
			}
			level--
			counts[level]++
			at++
		default:
			if level != depth {
				return nil, fmt.Errorf("data is not nested alike everywhere")
			}
			end := at + 1
			for end < len(text) && !closes(text[end]) {
				end++
			}
			if raw, err = appendElement(raw, datatype, text[at:end]); err != nil {
				return nil, err
			}
			counts[level]++
			at = end
		}
	}
	if got := int64(len(raw) / datatype.Size()); got != elements {
		return nil, fmt.Errorf("data has %d elements, but shape %v takes %d", got, shape, elements)
	}
	return raw, nil
}

// opening counts the brackets that the text begins with.
func opening(text []byte) int {
	depth := 0
	for _, c := range text {
		switch c {
		case '[':
			depth++
		case ' ', '\t', '\r', '\n':
		default:
			return depth
		}
	}
	return depth
}

func closes(c byte) bool {
	return c == ',' || c == ']' || c == ' ' || c == '\n' || c == '\t' || c == '\r'
}

// appendElement puts one JSON value behind raw, in the type's bytes.
func appendElement(raw []byte, datatype Datatype, text []byte) ([]byte, error) {
	size := datatype.Size()
	switch datatype {
	case Bool:
		switch string(text) {
		case "true":
			return append(raw, 1), nil
		case "false":
			return append(raw, 0), nil
		}
	case Uint8, Uint16, Uint32, Uint64:
		if number, err := strconv.ParseUint(string(text), 10, 8*size); err == nil {
			return appendWord(raw, number, size), nil
		}
	case Int8, Int16, Int32, Int64:
		if number, err := strconv.ParseInt(string(text), 10, 8*size); err == nil {
			return appendWord(raw, uint64(number), size), nil
		}
	case FP64:
		if number, err := strconv.ParseFloat(string(text), 64); err == nil {
			return appendWord(raw, math.Float64bits(number), size), nil
		}
	case FP32:
		if number, err := strconv.ParseFloat(string(text), 32); err == nil {
			return appendWord(raw, uint64(math.Float32bits(float32(number))), size), nil
		}
	case FP16:
		return nil, fmt.Errorf("FP16 cannot be sent as JSON; send it as binary data")
	}
	const most = 40
	word := string(text)
	if len(word) > most {
		word = word[:most] + "..."
	}
	return nil, fmt.Errorf("data has %s, which is no %s", word, datatype)
}

func appendWord(raw []byte, word uint64, size int) []byte {
	switch size {
	case 1:
		return append(raw, byte(word))
	case 2:
		return binary.LittleEndian.AppendUint16(raw, uint16(word))
	case 4:
		return binary.LittleEndian.AppendUint32(raw, uint32(word))
	default:
		return binary.LittleEndian.AppendUint64(raw, word)
	}
}

// appendData puts a tensor's elements behind text, as one flat JSON array.
func appendData(text []byte, t *Tensor) ([]byte, error) {
	if t.Datatype == FP16 {
		return nil, fmt.Errorf("output %q is FP16, which JSON cannot carry; ask for binary data", t.Name)
	}
	if err := t.Finite(); err != nil {
		return nil, fmt.Errorf("%w, which JSON cannot carry; ask for binary data", err)
	}
	size := t.Datatype.Size()
	text = append(text, '[')
	for at := 0; at < len(t.Raw); at += size {
		if at > 0 {
			text = append(text, ',')
		}
		text = appendJSON(text, t.Datatype, t.Raw[at:at+size])
	}
	return append(text, ']'), nil
}

func appendJSON(text []byte, datatype Datatype, raw []byte) []byte {
	order := binary.LittleEndian
	switch datatype {
	case Bool:
		return strconv.AppendBool(text, raw[0] != 0)
	case Uint8:
		return strconv.AppendUint(text, uint64(raw[0]), 10)
	case Uint16:
		return strconv.AppendUint(text, uint64(order.Uint16(raw)), 10)
	case Uint32:
		return strconv.AppendUint(text, uint64(order.Uint32(raw)), 10)
	case Uint64:
		return strconv.AppendUint(text, order.Uint64(raw), 10)
	case Int8:
		return strconv.AppendInt(text, int64(int8(raw[0])), 10)
	case Int16:
		return strconv.AppendInt(text, int64(int16(order.Uint16(raw))), 10)
	case Int32:
		return strconv.AppendInt(text, int64(int32(order.Uint32(raw))), 10)
	case Int64:
		return strconv.AppendInt(text, int64(order.Uint64(raw)), 10)
	case FP32:
		return strconv.AppendFloat(text, float64(math.Float32frombits(order.Uint32(raw))), 'g', -1, 32)
	default:
		return strconv.AppendFloat(text, math.Float64frombits(order.Uint64(raw)), 'g', -1, 64)
	}
}
