import java.lang.management.ManagementFactory;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import javax.management.ObjectName;

/** A stand-in for somebody's Java application: it takes orders and shows its figures through JMX. */
public final class Shop {
    /** What an operator may read of one region. */
    public interface OrdersMBean {
        long getPlacedTotal();

        long getFailedTotal();

        double getRevenueTotal();

        int getQueueLength();

        String getState();
    }

    static final class Orders implements OrdersMBean {
        private final AtomicLong placed = new AtomicLong();
        private final AtomicLong failed = new AtomicLong();
        private final AtomicLong cents = new AtomicLong();
        private volatile int queueLength;

        void take() {
            ThreadLocalRandom random = ThreadLocalRandom.current();
            placed.incrementAndGet();
            cents.addAndGet(random.nextLong(500, 20_000));
            if (random.nextInt(20) == 0) {
                failed.incrementAndGet();
            }
            queueLength = random.nextInt(10);
        }

        @Override
        public long getPlacedTotal() {
            return placed.get();
        }

        @Override
        public long getFailedTotal() {
            return failed.get();
        }

        @Override
        public double getRevenueTotal() {
            return cents.get() / 100.0;
        }

        @Override
        public int getQueueLength() {
            return queueLength;
        }

        @Override
        public String getState() {
            return "OPEN";
        }
    }

    public static void main(String[] regions) throws Exception {
        Orders[] all = new Orders[regions.length];
        for (int i = 0; i < regions.length; i++) {
            all[i] = new Orders();
            ManagementFactory.getPlatformMBeanServer()
                    .registerMBean(all[i], new ObjectName("shop:type=Orders,region=" + regions[i]));
        }
        System.out.println("taking orders");
        while (true) {
            for (Orders orders : all) {
                orders.take();
            }
            Thread.sleep(100);
        }
    }
}
