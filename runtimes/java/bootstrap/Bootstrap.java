package org.serverlessbench.bootstrap;

import java.io.BufferedInputStream;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Proxy;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.serverlessbench.Json;

/**
 * Client of the AWS Lambda Runtime API, on the JDK alone.
 *
 * <p>Started with AWS_LAMBDA_RUNTIME_API (host:port), _HANDLER ("package.Class::method") and LAMBDA_TASK_ROOT (directory of
 * the unpacked package: classes in it, JAR files in lib) in the environment. It loads the handler once and then serves one
 * invocation at a time until the host closes the connection. Java 11 to 21.
 */
public final class Bootstrap {
    private static final String API = "/2018-06-01/runtime";

    private Bootstrap() {}

    public static void main(String[] arguments) throws Exception {
        String address = variable("AWS_LAMBDA_RUNTIME_API");
        if (address.isEmpty()) {
            throw new IllegalStateException("AWS_LAMBDA_RUNTIME_API is not set; give the Runtime API's host:port");
        }
        Connection connection = new Connection(address);
        Handler handler;
        try {
            handler = Handler.load(new File(variable("LAMBDA_TASK_ROOT")), variable("_HANDLER"));
        } catch (Failure e) {
            e.report(connection, "/init/error", null);
            System.exit(1);
            return;
        }
        try {
            new Server(connection, handler).serve();
        } catch (IOException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
    }

    static String variable(String name) {
        String value = System.getenv(name);
        return value == null ? "" : value;
    }

    /** Serves invocations. */
    private static final class Server {
        private final Connection connection;
        private final Handler handler;
        /** The invocation that waits for an answer. */
        private volatile String current;

        Server(Connection connection, Handler handler) {
            this.connection = connection;
            this.handler = handler;
            // System.exit ends the process, but not without an answer.
            Runtime.getRuntime().addShutdownHook(new Thread(this::ended));
        }

        private void ended() {
            String id = current;
            if (id == null) {
                return;
            }
            try {
                flush();
                new Failure("Runtime.ExitError", "the function ended the process", List.of()).report(connection, "/invocation/" + id + "/error", id);
            } catch (IOException e) {
                System.err.println(e.getMessage());
            }
        }

        void serve() throws IOException {
            while (true) {
                Answer work = connection.exchange("GET", API + "/invocation/next", new byte[0], Map.of());
                if (work.status != 200) {
                    throw new EOFException("the Runtime API answered " + work.status + " to a request for work");
                }
                String id = work.headers.getOrDefault("lambda-runtime-aws-request-id", "");
                String path = "/invocation/" + id;
                System.setProperty("com.amazonaws.xray.traceHeader", work.headers.getOrDefault("lambda-runtime-trace-id", ""));
                byte[] response;
                current = id;
                try {
                    response = handler.call(work.body, work.headers);
                } catch (Failure e) {
                    current = null;
                    flush();
                    e.report(connection, path + "/error", id);
                    if (e.getCause() instanceof VirtualMachineError && !(e.getCause() instanceof StackOverflowError)) {
                        throw new EOFException("the Java virtual machine cannot go on: " + e.getCause());
                    }
                    continue;
                }
                current = null;
                flush();
                Answer taken = connection.exchange("POST", API + path + "/response", response, Map.of());
                if (taken.status >= 300) {
                    System.err.println("[ERROR] the Runtime API answered " + taken.status + " to the response of " + id + ": "
                        + new String(taken.body, StandardCharsets.UTF_8));
                }
            }
        }

        private static void flush() {
            System.out.flush();
            System.err.flush();
        }
    }

    /** An error for the Runtime API. */
    private static final class Failure extends Exception {
        private static final long serialVersionUID = 1;
        private final String kind;
        private final ArrayList<String> stack;

        Failure(String kind, String message, List<String> stack) {
            super(message);
            this.kind = kind;
            this.stack = new ArrayList<>(stack);
        }

        /** What the function's code threw. */
        Failure(String before, Throwable cause) {
            super(before + (cause.getMessage() == null ? cause.getClass().getSimpleName() : cause.getMessage()), cause);
            this.kind = cause.getClass().getName();
            this.stack = frames(cause);
        }

        /** Frames of the function's side, innermost first, with those of causes. */
        private static ArrayList<String> frames(Throwable thrown) {
            ArrayList<String> lines = new ArrayList<>();
            int depth = 0;
            for (Throwable t = thrown; t != null && depth < 8; t = t.getCause(), depth++) {
                if (t != thrown) {
                    lines.add("Caused by: " + t);
                }
                for (StackTraceElement frame : t.getStackTrace()) {
                    String name = frame.getClassName();
                    if (name.startsWith("org.serverlessbench.bootstrap.")) {
                        break;
                    }
                    if (!name.startsWith("jdk.internal.reflect.") && !name.startsWith("java.lang.reflect.") && lines.size() < 200) {
                        lines.add(frame.toString());
                    }
                }
            }
            return lines;
        }

        void report(Connection connection, String path, String id) throws IOException {
            // The log gets what the caller gets: a function's log must explain itself.
            System.err.println("[ERROR] " + kind + ": " + getMessage());
            stack.forEach(line -> System.err.println("    " + line));
            System.err.flush();
            Map<String, Object> body = new LinkedHashMap<>();
            body.put("errorType", kind);
            body.put("errorMessage", getMessage());
            body.put("stackTrace", stack);
            if (id != null) {
                body.put("requestId", id);
            }
            // Names of classes may carry any letter; a header may not.
            String safe = kind.replaceAll("[^!-~]", "_");
            connection.exchange("POST", API + path, Json.write(body, null).getBytes(StandardCharsets.UTF_8),
                Map.of("Lambda-Runtime-Function-Error-Type", safe));
        }
    }

    /** The function's handler method. */
    private static final class Handler {
        private final Object target;
        private final Method method;

        private Handler(Object target, Method method) {
            this.target = target;
            this.method = method;
        }

        static Handler load(File root, String name) throws Failure {
            String[] parts = name.split("::", -1);
            if (parts.length > 2 || parts[0].isEmpty() || parts[parts.length - 1].isEmpty()) {
                throw new Failure("Runtime.MalformedHandlerName",
                    "handler name \"" + name + "\" must have the form <package>.<Class>::<method>", List.of());
            }
            String wanted = parts.length == 2 ? parts[1] : "handleRequest";
            try {
                // The function sees the JDK and its own package, not the classes of this program.
                ClassLoader loader = new URLClassLoader(classPath(root), ClassLoader.getPlatformClassLoader());
                Thread.currentThread().setContextClassLoader(loader);
                Class<?> type = Class.forName(parts[0], true, loader);
                Method method = choose(type, wanted);
                if (method == null) {
                    throw new Failure("Runtime.HandlerNotFound", "class " + parts[0] + " has no public method " + wanted
                        + " that takes an event", List.of());
                }
                method.setAccessible(true);
                Object target = Modifier.isStatic(method.getModifiers()) ? null : type.getConstructor().newInstance();
                warm(method);
                return new Handler(target, method);
            } catch (ClassNotFoundException e) {
                throw new Failure("Runtime.ImportModuleError", "class " + parts[0] + " is not in the package", List.of());
            } catch (NoSuchMethodException e) {
                throw new Failure("Runtime.HandlerNotFound", "class " + parts[0] + " has no public constructor without parameters", List.of());
            } catch (UnsupportedClassVersionError e) {
                throw new Failure("Runtime.ImportModuleError", "the package was compiled for a newer Java than "
                    + System.getProperty("java.version") + ": " + e.getMessage(), List.of());
            } catch (NoClassDefFoundError e) {
                throw new Failure("Runtime.ImportModuleError", "class " + e.getMessage() + " is missing; add the library that holds it to pom.xml",
                    Failure.frames(e));
            } catch (ExceptionInInitializerError | InvocationTargetException e) {
                throw new Failure("the function's code failed while it was loaded: ", e.getCause());
            } catch (ReflectiveOperationException | LinkageError | IOException e) {
                throw new Failure("the function's code cannot be loaded: ", e);
            }
        }

        /** Loads now, while a sandbox starts at full speed, what the first invocation would load at its share of a processor. */
        private static void warm(Method method) {
            Json.parse(Json.write(Map.of("name", List.of(1, 1.5, true, "text")), null));
            Class<?> last = method.getParameterTypes()[method.getParameterCount() - 1];
            if (last.isInterface() && method.getParameterCount() > 1) {
                Context.of(last, Map.of()).toString();
            }
        }

        private static URL[] classPath(File root) throws IOException {
            List<URL> urls = new ArrayList<>();
            urls.add(root.toURI().toURL());
            File[] jars = new File(root, "lib").listFiles((dir, file) -> file.endsWith(".jar"));
            if (jars != null) {
                Arrays.sort(jars);
                for (File jar : jars) {
                    urls.add(jar.toURI().toURL());
                }
            }
            return urls.toArray(new URL[0]);
        }

        /** As Lambda does: of several methods of the name the one with the most parameters, never a compiler's bridge. */
        private static Method choose(Class<?> type, String name) {
            Method best = null;
            for (Method method : type.getMethods()) {
                int count = method.getParameterCount();
                if (!method.getName().equals(name) || method.isBridge() || count < 1 || count > 3 || count == 3 && !streams(method)) {
                    continue;
                }
                if (best == null || count > best.getParameterCount()) {
                    best = method;
                }
            }
            return best;
        }

        private static boolean streams(Method method) {
            Class<?>[] types = method.getParameterTypes();
            return types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
        }

        byte[] call(byte[] payload, Map<String, String> headers) throws Failure {
            Class<?>[] types = method.getParameterTypes();
            ByteArrayOutputStream written = streams(method) ? new ByteArrayOutputStream() : null;
            List<Object> arguments = new ArrayList<>();
            if (types[0] == InputStream.class) {
                arguments.add(new ByteArrayInputStream(payload));
            } else {
                arguments.add(event(payload, types[0]));
            }
            if (written != null) {
                arguments.add(written);
            }
            if (types.length > arguments.size()) {
                Class<?> context = types[arguments.size()];
                arguments.add(context.isInterface() ? Context.of(context, headers) : null);
            }
            Object result;
            try {
                result = method.invoke(target, arguments.toArray());
            } catch (InvocationTargetException e) {
                throw new Failure("", e.getCause());
            } catch (IllegalAccessException e) {
                throw new Failure("the handler cannot be called: ", e);
            }
            if (written != null) {
                return written.toByteArray();
            }
            try {
                return Json.write(result, null).getBytes(StandardCharsets.UTF_8);
            } catch (IllegalArgumentException e) {
                throw new Failure("Runtime.MarshalError", "the function's return value is not JSON: " + e.getMessage()
                    + "; return only Map, List, String, Number, Boolean and null", List.of());
            }
        }

        private static Object event(byte[] payload, Class<?> type) throws Failure {
            Object event;
            try {
                event = payload.length == 0 ? null : Json.parse(new String(payload, StandardCharsets.UTF_8));
            } catch (IllegalArgumentException e) {
                throw new Failure("Runtime.UnmarshalError", "the payload is not JSON: " + e.getMessage(), List.of());
            }
            if (event != null && !type.isInstance(event)) {
                throw new Failure("Runtime.UnmarshalError", "the handler takes a " + type.getName() + ", the payload is a "
                    + event.getClass().getSimpleName() + "; take Map, List, String, Number, Boolean, Object or InputStream", List.of());
            }
            return event;
        }
    }

    /** The context object of the package's own interface, whatever its version. */
    private static final class Context {
        private Context() {}

        static Object of(Class<?> type, Map<String, String> headers) {
            return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (proxy, method, arguments) -> {
                switch (method.getName()) {
                    case "getAwsRequestId":
                        return headers.getOrDefault("lambda-runtime-aws-request-id", "");
                    case "getInvokedFunctionArn":
                        return headers.getOrDefault("lambda-runtime-invoked-function-arn", "");
                    case "getFunctionName":
                        return variable("AWS_LAMBDA_FUNCTION_NAME");
                    case "getFunctionVersion":
                        return variable("AWS_LAMBDA_FUNCTION_VERSION");
                    case "getLogGroupName":
                        return variable("AWS_LAMBDA_LOG_GROUP_NAME");
                    case "getLogStreamName":
                        return variable("AWS_LAMBDA_LOG_STREAM_NAME");
                    case "getMemoryLimitInMB":
                        return (int) number(variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
                    case "getRemainingTimeInMillis":
                        return (int) Math.max(0, number(headers.get("lambda-runtime-deadline-ms")) - System.currentTimeMillis());
                    case "getLogger":
                        return logger(method.getReturnType());
                    case "toString":
                        return type.getName();
                    case "hashCode":
                        return System.identityHashCode(proxy);
                    case "equals":
                        return proxy == arguments[0];
                    default:
                        return null; // identity and client context
                }
            });
        }

        private static Object logger(Class<?> type) {
            return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (proxy, method, arguments) -> {
                if (method.getName().equals("log")) {
                    Object message = arguments[0];
                    System.out.println(message instanceof byte[] ? new String((byte[]) message, StandardCharsets.UTF_8) : message);
                    return null;
                }
                return method.getName().equals("hashCode") ? (Object) System.identityHashCode(proxy)
                    : method.getName().equals("equals") ? (Object) (proxy == arguments[0]) : type.getName();
            });
        }

        private static long number(String text) {
            try {
                return text == null ? 0 : Long.parseLong(text.trim());
            } catch (NumberFormatException e) {
                return 0;
            }
        }
    }

    /** An answer of the Runtime API. */
    private static final class Answer {
        private final int status;
        private final Map<String, String> headers;
        private final byte[] body;

        Answer(int status, Map<String, String> headers, byte[] body) {
            this.status = status;
            this.headers = headers;
            this.body = body;
        }
    }

    /**
     * A kept-alive HTTP/1.1 connection to the Runtime API.
     *
     * <p>Requests are written by one call each and Nagle's algorithm is off: head and body in two segments would wait for a
     * delayed acknowledgement, some 40 ms a call. The few lines of HTTP that the API needs are spoken here because the JDK's
     * clients write head and body apart, and take longer to load than the rest of this program.
     */
    private static final class Connection {
        private final String address;
        private Socket socket;
        private InputStream in;

        Connection(String address) {
            this.address = address;
        }

        synchronized Answer exchange(String method, String path, byte[] body, Map<String, String> headers) throws IOException {
            StringBuilder head = new StringBuilder(256);
            head.append(method).append(' ').append(path).append(" HTTP/1.1\r\nHost: ").append(address).append("\r\n");
            if (!method.equals("GET")) {
                head.append("Content-Type: application/json\r\nContent-Length: ").append(body.length).append("\r\n");
            }
            headers.forEach((name, value) -> head.append(name).append(": ").append(value).append("\r\n"));
            byte[] first = head.append("\r\n").toString().getBytes(StandardCharsets.ISO_8859_1);
            byte[] message = Arrays.copyOf(first, first.length + body.length);
            System.arraycopy(body, 0, message, first.length, body.length);

            boolean fresh = socket == null;
            try {
                if (fresh) {
                    open();
                }
                return send(message);
            } catch (IOException e) {
                close();
                // A kept connection may have been closed by the host since the last answer. A request for work is repeated, an
                // answer never is: it might have been taken.
                if (fresh || !method.equals("GET")) {
                    throw e;
                }
            }
            open();
            return send(message);
        }

        private void open() throws IOException {
            int colon = address.lastIndexOf(':');
            String host = address.substring(0, colon).replaceAll("^\\[|\\]$", "");
            socket = new Socket();
            socket.setTcpNoDelay(true);
            socket.connect(new InetSocketAddress(host, Integer.parseInt(address.substring(colon + 1))));
            in = new BufferedInputStream(socket.getInputStream(), 1 << 16);
        }

        private void close() {
            try {
                if (socket != null) {
                    socket.close();
                }
            } catch (IOException e) {
                // It is of no use any more either way.
            }
            socket = null;
        }

        private Answer send(byte[] message) throws IOException {
            socket.getOutputStream().write(message);
            String[] status = line().split(" ", 3);
            Map<String, String> headers = new TreeMap<>();
            for (String line = line(); !line.isEmpty(); line = line()) {
                int colon = line.indexOf(':');
                headers.put(line.substring(0, Math.max(colon, 0)).trim().toLowerCase(Locale.ROOT), line.substring(colon + 1).trim());
            }
            byte[] body;
            if (headers.getOrDefault("transfer-encoding", "").toLowerCase(Locale.ROOT).contains("chunked")) {
                body = chunks();
            } else {
                body = exactly(Integer.parseInt(headers.getOrDefault("content-length", "0")));
            }
            if (headers.getOrDefault("connection", "").equalsIgnoreCase("close")) {
                close();
            }
            return new Answer(Integer.parseInt(status[1]), headers, body);
        }

        private EOFException gone() {
            return new EOFException("the Runtime API at " + address + " closed the connection");
        }

        private String line() throws IOException {
            StringBuilder line = new StringBuilder(64);
            for (int c = in.read(); c != '\n'; c = in.read()) {
                if (c < 0) {
                    throw gone();
                }
                line.append((char) c);
            }
            if (line.length() > 0 && line.charAt(line.length() - 1) == '\r') {
                line.setLength(line.length() - 1);
            }
            return line.toString();
        }

        private byte[] exactly(int size) throws IOException {
            byte[] body = in.readNBytes(size);
            if (body.length != size) {
                throw gone();
            }
            return body;
        }

        private byte[] chunks() throws IOException {
            ByteArrayOutputStream body = new ByteArrayOutputStream();
            for (int size = chunk(); size > 0; size = chunk()) {
                body.write(exactly(size));
                line();
            }
            while (!line().isEmpty()) {
                // trailers say nothing of use
            }
            return body.toByteArray();
        }

        private int chunk() throws IOException {
            return Integer.parseInt(line().split(";", 2)[0].trim(), 16);
        }
    }
}
