package function;

import com.github.mustachejava.DefaultMustacheFactory;
import com.github.mustachejava.Mustache;
import java.io.StringWriter;
import java.time.Instant;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Random;
import java.util.Set;

public class Function {
    private static final int LIMIT = 1_000_000;

    /** Distinct random numbers below LIMIT. */
    private static Set<Integer> sample(int count) {
        Random random = new Random();
        Set<Integer> numbers = new LinkedHashSet<>(count * 2);
        while (numbers.size() < count) {
            numbers.add(random.nextInt(LIMIT));
        }
        return numbers;
    }

    public Map<String, Object> handler(Map<String, Object> event) {
        // Read anew every time, as in the other languages: rendering includes the template.
        Mustache page = new DefaultMustacheFactory("templates").compile("template.mustache.html");
        StringWriter out = new StringWriter();
        page.execute(out, Map.of(
            "username", event.get("username"),
            "cur_time", Instant.now().toString(),
            "random_numbers", sample(((Number) event.get("random_len")).intValue())));
        return Map.of("result", out.toString());
    }
}
