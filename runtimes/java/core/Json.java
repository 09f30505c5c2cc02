package org.serverlessbench;

import java.lang.reflect.Array;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/**
 * JSON on the JDK alone: starting a data binding library costs more than a whole invocation of a small function.
 *
 * <p>Values are Map, List, String, Integer, Long, BigInteger, Double, Boolean and null, as Lambda's own runtime hands them
 * to a function that takes a Map.
 */
public final class Json {
    /** Deeper documents are refused: they would exhaust the stack. */
    private static final int MAX_DEPTH = 1000;

    private final String text;
    private int at;
    private int depth;

    private Json(String text) {
        this.text = text;
    }

    /** Reads one document. Throws IllegalArgumentException with the place of the fault. */
    public static Object parse(String text) {
        Json reader = new Json(text);
        Object value = reader.value();
        reader.space();
        if (reader.at != text.length()) {
            throw reader.fault("something follows the document");
        }
        return value;
    }

    private IllegalArgumentException fault(String what) {
        return new IllegalArgumentException(what + " at character " + at);
    }

    private void space() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at == text.length()) {
            throw fault("the document breaks off");
        }
        return text.charAt(at);
    }

    private Object value() {
        space();
        switch (peek()) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw fault("unknown word");
        }
        at += word.length();
        return value;
    }

    private void enter() {
        if (++depth > MAX_DEPTH) {
            throw fault("the document is nested more than " + MAX_DEPTH + " deep");
        }
        at++;
        space();
    }

    /** Says whether another member follows; eats the comma or the closing mark. */
    private boolean next(char end) {
        space();
        char c = peek();
        at++;
        if (c == end) {
            depth--;
            return false;
        }
        if (c != ',') {
            at--;
            throw fault("a comma or " + end + " is missing");
        }
        return true;
    }

    private Map<String, Object> object() {
        Map<String, Object> map = new LinkedHashMap<>();
        enter();
        if (peek() == '}') {
            next('}');
            return map;
        }
        do {
            space();
            if (peek() != '"') {
                throw fault("a name in quotation marks is missing");
            }
            String name = string();
            space();
            if (peek() != ':') {
                throw fault("a colon is missing");
            }
            at++;
            map.put(name, value());
        } while (next('}'));
        return map;
    }

    private List<Object> array() {
        List<Object> list = new ArrayList<>();
        enter();
        if (peek() == ']') {
            next(']');
            return list;
        }
        do {
            list.add(value());
        } while (next(']'));
        return list;
    }

    private String string() {
        int begin = ++at;
        // Most strings have nothing to replace and are cut out as they are.
        while (peek() != '"' && text.charAt(at) != '\\' && text.charAt(at) >= ' ') {
            at++;
        }
        if (text.charAt(at) == '"') {
            return text.substring(begin, at++);
        }
        StringBuilder out = new StringBuilder(text.substring(begin, at));
        while (peek() != '"') {
            char c = text.charAt(at++);
            if (c < ' ') {
                throw fault("a control character stands in a string");
            }
            out.append(c == '\\' ? escaped() : c);
        }
        at++;
        return out.toString();
    }

    private char escaped() {
        char c = peek();
        at++;
        switch (c) {
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case '"':
            case '\\':
            case '/':
                return c;
            case 'u':
                break;
            default:
                throw fault("unknown escape");
        }
        int code = 0;
        for (int i = 0; i < 4; i++) {
            int digit = Character.digit(peek(), 16);
            if (digit < 0 || peek() > 'f') {
                throw fault("four hexadecimal digits are missing");
            }
            code = code << 4 | digit;
            at++;
        }
        return (char) code;
    }

    private void digits() {
        int begin = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        if (at == begin) {
            throw fault("a digit is missing");
        }
    }

    private boolean skip(String choice) {
        if (at < text.length() && choice.indexOf(text.charAt(at)) >= 0) {
            at++;
            return true;
        }
        return false;
    }

    private Object number() {
        int begin = at;
        skip("-");
        if (!skip("0")) {
            digits();
        }
        boolean whole = true;
        if (skip(".")) {
            digits();
            whole = false;
        }
        if (skip("eE")) {
            skip("+-");
            digits();
            whole = false;
        }
        String digits = text.substring(begin, at);
        if (!whole) {
            return Double.valueOf(digits);
        }
        if (digits.length() > 18) {
            BigInteger big = new BigInteger(digits);
            return big.bitLength() < 64 ? (Object) big.longValue() : big;
        }
        long value = Long.parseLong(digits);
        return value == (int) value ? (Object) (int) value : (Object) value;
    }

    /**
     * Writes a value. Objects of other classes are written by other, which answers JSON, or refused where it is null. Throws
     * IllegalArgumentException for what JSON has no form of.
     */
    public static String write(Object value, Function<Object, String> other) {
        StringBuilder out = new StringBuilder(256);
        write(out, value, other, 0);
        return out.toString();
    }

    private static void write(StringBuilder out, Object value, Function<Object, String> other, int depth) {
        if (depth > MAX_DEPTH) {
            throw new IllegalArgumentException("the value is nested more than " + MAX_DEPTH + " deep, or holds itself");
        }
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
            quote(out, value instanceof Enum ? ((Enum<?>) value).name() : value.toString());
        } else if (value instanceof Number && value.getClass().getName().startsWith("java.")) {
            double number = ((Number) value).doubleValue();
            if ((value instanceof Double || value instanceof Float) && (Double.isNaN(number) || Double.isInfinite(number))) {
                throw new IllegalArgumentException("the number " + value + " has no form in JSON");
            }
            out.append(value);
        } else if (value instanceof Map) {
            writeMap(out, (Map<?, ?>) value, other, depth);
        } else if (value instanceof Iterable) {
            writeAll(out, ((Iterable<?>) value).iterator(), other, depth);
        } else if (value.getClass().isArray()) {
            List<Object> list = new ArrayList<>();
            for (int i = 0; i < Array.getLength(value); i++) {
                list.add(Array.get(value, i));
            }
            writeAll(out, list.iterator(), other, depth);
        } else if (other != null) {
            out.append(other.apply(value));
        } else {
            throw new IllegalArgumentException("an object of class " + value.getClass().getName() + " has no form in JSON");
        }
    }

    private static void writeMap(StringBuilder out, Map<?, ?> map, Function<Object, String> other, int depth) {
        char mark = '{';
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            if (entry.getKey() == null) {
                throw new IllegalArgumentException("a map has the key null");
            }
            out.append(mark);
            quote(out, entry.getKey().toString());
            out.append(':');
            write(out, entry.getValue(), other, depth + 1);
            mark = ',';
        }
        out.append(mark == '{' ? "{}" : "}");
    }

    private static void writeAll(StringBuilder out, Iterator<?> items, Function<Object, String> other, int depth) {
        out.append('[');
        while (items.hasNext()) {
            write(out, items.next(), other, depth + 1);
            if (items.hasNext()) {
                out.append(',');
            }
        }
        out.append(']');
    }

    private static void quote(StringBuilder out, String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || Character.isSurrogate(c) && !paired(text, i)) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    /** Half a character cannot be written in UTF-8. */
    private static boolean paired(String text, int i) {
        return Character.isHighSurrogate(text.charAt(i))
            ? i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))
            : i > 0 && Character.isHighSurrogate(text.charAt(i - 1));
    }
}
