package rollout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"

	"github.com/midair-go/midair/canary/rollout"
)

// prometheus returns an Opinion by a query of a Prometheus server: above the limit, the rollout holds, and while there is no answer too.
func prometheus(server, query string, limit float64) func(context.Context, rollout.Status) rollout.Opinion {
	return func(ctx context.Context, _ rollout.Status) rollout.Opinion {
		value, err := ask(ctx, server+"/api/v1/query?query="+url.QueryEscape(query))
		if err != nil {
			return rollout.Opinion{Hold: true, Reason: err.Error()}
		}
		return rollout.Opinion{Hold: value > limit, Reason: fmt.Sprintf("%s is %v", query, value)}
	}
}

// ask returns the first value of the answer, and 0 if the answer has none.
func ask(ctx context.Context, address string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var answer struct {
		Status string
		Data   struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Status != "success" {
		return 0, fmt.Errorf("the answer of Prometheus is %s, %q: %v", res.Status, answer.Status, err)
	}
	if len(answer.Data.Result) == 0 {
		return 0, nil
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// An Opinion asks a Prometheus server, and holds the rollout while orders are lost.
func ExampleOpinion() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // in place of a Prometheus server
		fmt.Fprint(w, `{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1700000000, "0.25"]}]}}`)
	}))
	defer server.Close()

	opts := rollout.Options{
		Opinion: prometheus(server.URL, `rate(orders_lost_total[1m])`, 0.1),
	}

	o := opts.Opinion(context.Background(), rollout.Status{})
	fmt.Println(o.Hold, o.Reason)
	http.DefaultClient.CloseIdleConnections()
	// Output: true rate(orders_lost_total[1m]) is 0.25
}
