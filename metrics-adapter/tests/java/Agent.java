import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import org.jolokia.backend.BackendManager;
import org.jolokia.config.ConfigKey;
import org.jolokia.config.Configuration;
import org.jolokia.http.HttpRequestHandler;
import org.jolokia.util.LogHandler;

/**
 * Jolokia's own request handler behind the JDK's HTTP server, as its JVM agent has it, and the fixture's beans.
 * Arguments: port, user:password or -, arguments of the fixture.
 */
public class Agent {
    static final LogHandler SILENT = new LogHandler() {
        public void debug(String message) { }
        public void info(String message) { }
        public void error(String message, Throwable cause) { }
    };

    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration(ConfigKey.AGENT_ID, "fixture");
        BackendManager backend = new BackendManager(configuration, SILENT);
        HttpRequestHandler handler = new HttpRequestHandler(configuration, backend, SILENT);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
        server.createContext("/jolokia", exchange -> answer(exchange, handler, arguments[1]));
        server.start();
        String[] rest = new String[arguments.length - 2];
        System.arraycopy(arguments, 2, rest, 0, rest.length);
        Fixture.main(rest);
    }

    static void answer(HttpExchange exchange, HttpRequestHandler handler, String user) throws java.io.IOException {
        String expected = "Basic " + Base64.getEncoder().encodeToString(user.getBytes(StandardCharsets.UTF_8));
        if (!user.equals("-") && !expected.equals(exchange.getRequestHeaders().getFirst("Authorization"))) {
            exchange.sendResponseHeaders(401, -1);
            exchange.close();
            return;
        }
        Object json;
        try {
            String uri = exchange.getRequestURI().toString();
            json = handler.handlePostRequest(uri, exchange.getRequestBody(), "UTF-8", new HashMap<>());
        } catch (Throwable problem) {
            json = handler.handleThrowable(problem);
        }
        byte[] body = json.toString().getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
