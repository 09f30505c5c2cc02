package org.serverlessbench;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Function;

/** Adapter of AWS Lambda, and of the local platform, which speaks its protocol. */
public final class Handler implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    private static final Function<Object, String> BEANS = Beans::write;

    private final function.Function benchmark = new function.Function();
    private final Core core = new Core(event -> benchmark.handler(event));

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        Map<String, Object> payload = Core.unwrap(event);
        Core.refuseUpload(payload);
        Map<String, Object> answer;
        try {
            answer = core.invoke(payload, context.getAwsRequestId());
        } catch (Exception e) {
            throw Handler.<RuntimeException>unchanged(e);
        }
        String body;
        try {
            body = Json.write(answer, BEANS);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("the function's return value is not JSON: " + e.getMessage(), e);
        }
        Map<String, Object> response = new LinkedHashMap<>();
        response.put("statusCode", 200);
        response.put("body", body);
        return response;
    }

    /** Lets an exception through that the interface does not declare: callers see the function's own one. */
    @SuppressWarnings("unchecked")
    private static <E extends Exception> E unchanged(Exception e) throws E {
        throw (E) e;
    }
}
