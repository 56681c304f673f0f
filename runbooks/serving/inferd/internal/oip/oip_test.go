package oip

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"
)

func int32s(values ...int32) []byte {
	raw, _ := binary.Append(nil, binary.LittleEndian, values)
	return raw
}

func jsonLength(text string) string { return strconv.Itoa(len(text)) }

func TestRequestsAreRead(t *testing.T) {
	binaryBody := `{"inputs":[{"name":"x","datatype":"INT32","shape":[2],"parameters":{"binary_data_size":8}}]}`
	for name, c := range map[string]struct {
		body, header string
		want         []byte
	}{
		"flat":    {body: `{"inputs":[{"name":"x","datatype":"INT32","shape":[2,2],"data":[1,-2,3,4]}]}`, want: int32s(1, -2, 3, 4)},
		"nested":  {body: `{"inputs":[{"name":"x","datatype":"INT32","shape":[2,2],"data":[[1,-2],[3, 4]]}]}`, want: int32s(1, -2, 3, 4)},
		"empty":   {body: `{"inputs":[{"name":"x","datatype":"INT32","shape":[0],"data":[]}]}`, want: nil},
		"bools":   {body: `{"inputs":[{"name":"x","datatype":"BOOL","shape":[2],"data":[true,false]}]}`, want: []byte{1, 0}},
		"largest": {body: `{"inputs":[{"name":"x","datatype":"UINT64","shape":[1],"data":[18446744073709551615]}]}`, want: bytes.Repeat([]byte{255}, 8)},
		"binary":  {body: binaryBody + string(int32s(7, 8)), header: jsonLength(binaryBody), want: int32s(7, 8)},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := ParseRequest([]byte(c.body), c.header)
			if err != nil {
				t.Fatal(err)
			}
			if got := request.Inputs[0].Raw; !bytes.Equal(got, c.want) {
				t.Errorf("got % x, want % x", got, c.want)
			}
		})
	}
}

func TestBadRequestsAreRefusedInOneSentence(t *testing.T) {
	input := func(members string) string { return `{"inputs":[{"name":"x",` + members + `}]}` }
	for _, c := range []struct{ body, header, want string }{
		{body: ``, want: "the body ends before its JSON does"},
		{body: `{"inputs"`, want: "the body ends before its JSON does"},
		{body: `{'a'}`, want: "the body is not JSON"},
		{body: `[]`, want: "is a array"},
		{body: `{} {}`, want: "goes on behind its JSON"},
		{body: `{}`, want: "no inputs"},
		{body: `{"inputs":[{"name":5}]}`, want: `name" of the body is a number`},
		{body: input(`"datatype":"BYTES","shape":[1],"data":["a"]`), want: `datatype "BYTES" is not served`},
		{body: input(`"datatype":"INT32","data":[1]`), want: "no shape"},
		{body: input(`"datatype":"INT32","shape":[1]`), want: "no data"},
		{body: input(`"datatype":"INT32","shape":[1],"data":null`), want: "not an array"},
		{body: input(`"datatype":"INT32","shape":[1],"data":1`), want: "not an array"},
		{body: input(`"datatype":"INT32","shape":[-1],"data":[1]`), want: "negative dimension"},
		{body: input(`"datatype":"INT32","shape":[9223372036854775807,2],"data":[1]`), want: "more elements than can be counted"},
		{body: input(`"datatype":"INT32","shape":[4000000000],"data":[1]`), want: "too few elements"},
		{body: input(`"datatype":"INT32","shape":[2],"data":[1]`), want: "1 elements, but shape [2] takes 2"},
		{body: input(`"datatype":"INT32","shape":[1],"data":[1,2]`), want: "2 elements, but shape [1] takes 1"},
		{body: input(`"datatype":"INT32","shape":[2,2],"data":[[1,2],[3]]`), want: "1 members in dimension 1"},
		{body: input(`"datatype":"INT32","shape":[2,2],"data":[[1,2],3,4]`), want: "nested alike"},
		{body: input(`"datatype":"INT32","shape":[2],"data":[1,[2]]`), want: "nested alike"},
		{body: input(`"datatype":"INT32","shape":[2,1],"data":[[[1]],[[2]]]`), want: "nested 3 deep"},
		{body: input(`"datatype":"INT32","shape":[1],"data":[2147483648]`), want: "2147483648, which is no INT32"},
		{body: input(`"datatype":"UINT8","shape":[1],"data":[-1]`), want: "-1, which is no UINT8"},
		{body: input(`"datatype":"INT32","shape":[1],"data":["a, b"]`), want: "which is no INT32"},
		{body: input(`"datatype":"BOOL","shape":[1],"data":[1]`), want: "1, which is no BOOL"},
		{body: input(`"datatype":"FP32","shape":[1],"data":[1e39]`), want: "1e39, which is no FP32"},
		{body: input(`"datatype":"FP16","shape":[1],"data":[1]`), want: "send it as binary data"},
		{body: `{}`, header: "3", want: "the body has 2 bytes"},
		{body: `{}`, header: "x", want: `is "x"`},
		{
			body: `{"inputs":[{"name":"x","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":9}}]}abcd`, header: "92",
			want: "binary_data_size is 9, but 4 bytes",
		},
		{
			body: `{"inputs":[{"name":"x","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":4}}]}abcde`, header: "92",
			want: "1 bytes of binary data are no input's",
		},
		{body: `{"parameters":{"timeout":0},` + input(`"datatype":"INT32","shape":[1],"data":[1]`)[1:], want: "above 0"},
	} {
		_, err := ParseRequest([]byte(c.body), c.header)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want ... %s ...", c.body, err, c.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", c.body, err)
		}
	}
}

func TestWhatIsEncodedIsReadBack(t *testing.T) {
	for datatype := range sizes {
		t.Run(string(datatype), func(t *testing.T) {
			raw := make([]byte, 4*datatype.Size())
			raw[len(raw)-1] = 1
			tensor := Tensor{Name: "x", Datatype: datatype, Shape: []int64{4}, Raw: raw}
			response := Response{Model: "m", Version: "1", Outputs: []Tensor{tensor}}
			wanted := []Wanted{{Name: "x", Binary: datatype == FP16}}
			body, length, err := response.Encode(wanted)
			if err != nil {
				t.Fatal(err)
			}
			header := ""
			if length > 0 {
				header = strconv.Itoa(length)
			}
			request, err := ParseRequest(bytes.Replace(body, []byte(`"outputs"`), []byte(`"inputs" `), 1), header)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(request.Inputs[0].Raw, raw) {
				t.Errorf("got % x, want % x", request.Inputs[0].Raw, raw)
			}
		})
	}
}

func TestWhatIsNotFiniteIsNoJSON(t *testing.T) {
	for _, value := range []float64{math.NaN(), math.Inf(-1)} {
		for _, tensor := range []Tensor{
			{Datatype: FP32, Raw: binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(value)))},
			{Datatype: FP64, Raw: binary.LittleEndian.AppendUint64(nil, math.Float64bits(value))},
		} {
			tensor.Name, tensor.Shape = "x", []int64{1}
			response := Response{Outputs: []Tensor{tensor}}
			if _, _, err := response.Encode(nil); err == nil {
				t.Errorf("%v as %s was encoded", value, tensor.Datatype)
			}
		}
	}
}

// Whatever comes in, what is accepted is whole: its bytes are as many as its shape says.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"inputs":[{"name":"x","datatype":"INT32","shape":[2,2],"data":[[1,2],[3,4]]}]}`), "")
	f.Add([]byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}abcd`), "91")
	f.Add([]byte(`{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]}],"outputs":[{"name":"y"}]}`), "")
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		request, err := ParseRequest(body, header)
		if err != nil {
			return
		}
		for _, input := range request.Inputs {
			if err := input.Check(); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkParse2048Numbers(b *testing.B) {
	body := []byte(`{"inputs":[{"name":"bytes","datatype":"INT32","shape":[1,2048],"data":[` +
		strings.Repeat("117,", 2047) + `1]}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(body, ""); err != nil {
			b.Fatal(err)
		}
	}
}
