package function;

import java.util.Map;

public class Function {
    public Map<String, Object> handler(Map<String, Object> event) throws InterruptedException {
        Number seconds = (Number) event.get("sleep");
        Thread.sleep(Math.round(seconds.doubleValue() * 1000));
        return Map.of("result", seconds);
    }
}
