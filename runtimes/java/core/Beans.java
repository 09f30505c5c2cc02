package org.serverlessbench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;

/** Writes objects of a benchmark's own classes. Loaded only where a result holds one. */
final class Beans {
    private static final ObjectMapper MAPPER = new ObjectMapper();

    private Beans() {}

    static String write(Object value) {
        try {
            return MAPPER.writeValueAsString(value);
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("an object of class " + value.getClass().getName() + " has no form in JSON: " + e.getOriginalMessage(), e);
        }
    }
}
