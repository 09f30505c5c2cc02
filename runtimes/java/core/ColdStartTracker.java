package org.serverlessbench;

import java.util.UUID;
import java.util.concurrent.atomic.AtomicBoolean;

/** What a sandbox remembers between invocations: its identity, and whether it has served one. */
public final class ColdStartTracker {
    private final AtomicBoolean cold = new AtomicBoolean(true);
    private final String containerId = UUID.randomUUID().toString().substring(0, 8);

    /** True at the first call in a sandbox, false at every later one. */
    public boolean takeCold() {
        return cold.getAndSet(false);
    }

    /** Eight hexadecimal digits that stay the same as long as the sandbox lives. */
    public String containerId() {
        return containerId;
    }
}
