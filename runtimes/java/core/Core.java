package org.serverlessbench;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Calls a benchmark's function and makes the answer of the suite around it.
 *
 * <p>The same on every platform. Adapters translate the platform's calling convention into one call of {@link #invoke}.
 */
public final class Core {
    /** The benchmark's function. */
    public interface Benchmark {
        /** Handles one event. */
        Map<String, Object> handler(Map<String, Object> event) throws Exception;
    }

    private final Benchmark benchmark;
    private final ColdStartTracker tracker = new ColdStartTracker();

    /** One per sandbox. */
    public Core(Benchmark benchmark) {
        this.benchmark = benchmark;
        // Loads now, while a sandbox starts at full speed, what the first invocation would load at its share of a processor.
        Json.parse(Json.write(answer(Instant.now(), 0, false, Map.of("result", 0), "", tracker.containerId()), null));
    }

    /** Runs the function once. What it throws passes through. */
    public Map<String, Object> invoke(Map<String, Object> event, String requestId) throws Exception {
        double income = System.currentTimeMillis() / 1000.0;
        // Taken before the call: a cold request that fails leaves the sandbox warm for the next one.
        boolean isCold = tracker.takeCold();
        event.put("request-id", requestId);
        event.put("income-timestamp", income);

        Instant begin = Instant.now();
        long started = System.nanoTime();
        Map<String, Object> result = benchmark.handler(event);
        long elapsed = System.nanoTime() - started;

        return answer(begin, elapsed, isCold, result, requestId, tracker.containerId());
    }

    private static Map<String, Object> answer(
            Instant begin, long elapsed, boolean isCold, Map<String, Object> result, String requestId, String containerId) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("begin", timestamp(begin));
        // From the monotonic clock: a step of the wall clock during the call must not bend the duration.
        answer.put("end", timestamp(begin.plusNanos(elapsed)));
        answer.put("results_time", 0);
        answer.put("is_cold", isCold);
        answer.put("result", result);
        answer.put("request_id", requestId);
        answer.put("container_id", containerId);
        String coldStart = System.getenv("cold_start");
        answer.put("cold_start_var", coldStart == null ? "" : coldStart);
        return answer;
    }

    /** Seconds since the epoch as text with microseconds: "1764061200.104512". */
    private static String timestamp(Instant time) {
        String micros = Integer.toString(1_000_000 + time.getNano() / 1000);
        // Joining by + would make the JDK generate code at the first call.
        return new StringBuilder(18).append(time.getEpochSecond()).append('.').append(micros, 1, 7).toString();
    }

    /**
     * The payload of an HTTP-style event: its body where that is a text. Throws IllegalArgumentException for a body that cannot
     * be read.
     */
    @SuppressWarnings("unchecked")
    public static Map<String, Object> unwrap(Map<String, Object> event) {
        if (event == null) {
            return new LinkedHashMap<>();
        }
        if (!(event.get("body") instanceof String)) {
            return event;
        }
        String body = (String) event.get("body");
        if (Boolean.TRUE.equals(event.get("isBase64Encoded"))) {
            body = decode(body);
        }
        Object payload;
        try {
            payload = Json.parse(body);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("the request's body is not JSON: " + e.getMessage(), e);
        }
        if (!(payload instanceof Map)) {
            throw new IllegalArgumentException("the request's body is no JSON object");
        }
        return (Map<String, Object>) payload;
    }

    private static String decode(String body) {
        byte[] bytes;
        try {
            bytes = Base64.getDecoder().decode(body);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(
                "the request's body is not base64, though the event's isBase64Encoded says so: " + e.getMessage(), e);
        }
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("the request's body is not JSON: its bytes are not UTF-8", e);
        }
    }

    /** Refuses an upload notification: there is no object store client for functions in Java. */
    public static void refuseUpload(Map<String, Object> event) {
        Object records = event.get("Records");
        if (!(records instanceof List) || ((List<?>) records).isEmpty() || !(((List<?>) records).get(0) instanceof Map)) {
            return;
        }
        if (((Map<?, ?>) ((List<?>) records).get(0)).containsKey("s3")) {
            throw new UnsupportedOperationException(
                "functions in Java serve no upload notifications; call them over an HTTP or library trigger");
        }
    }
}
