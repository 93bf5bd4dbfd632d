import java.lang.management.ManagementFactory;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.*;
import java.util.concurrent.atomic.*;
import javax.management.*;
import javax.management.openmbean.*;

/** Beans of every shape the adapter has to cope with. Arguments: [beans N] [even] [unlike] [little] [churn] [hang] */
public class Fixture {
    public enum Mode { FAST, SLOW }

    public interface ShapesMXBean {
        int getInt();
        long getLong();
        double getDouble();
        float getFloat();
        boolean isFlag();
        String getText();
        Mode getMode();
        Map<String, Long> getCounts();
        Map<String, Map<String, Long>> getNested();
        List<Point> getPoints();
        Point getPoint();
        BigInteger getHuge();
        BigDecimal getPrecise();
        Date getStarted();
        int[] getArray();
        Long getNothing();
    }

    public static class Point {
        private final int x;
        private final double y;
        public Point(int x, double y) { this.x = x; this.y = y; }
        public int getX() { return x; }
        public double getY() { return y; }
    }

    public static class Shapes implements ShapesMXBean {
        public int getInt() { return -7; }
        public long getLong() { return Long.MAX_VALUE; }
        public double getDouble() { return 1.5e10; }
        public float getFloat() { return 0.1f; }
        public boolean isFlag() { return true; }
        public String getText() { return "12.5 per cent"; }
        public Mode getMode() { return Mode.SLOW; }
        public Map<String, Long> getCounts() {
            Map<String, Long> map = new TreeMap<>();
            map.put("a", 1L);
            map.put("b", 2L);
            return map;
        }
        public Map<String, Map<String, Long>> getNested() {
            return Collections.singletonMap("outer", Collections.singletonMap("inner", 42L));
        }
        public List<Point> getPoints() { return Arrays.asList(new Point(1, 2), new Point(3, 4)); }
        public Point getPoint() { return new Point(3, 0.25); }
        public BigInteger getHuge() { return BigInteger.ONE.shiftLeft(100).negate(); }
        public BigDecimal getPrecise() { return new BigDecimal("123.4500"); }
        public Date getStarted() { return new Date(1234567890123L); }
        public int[] getArray() { return new int[] {1, 2, 3}; }
        public Long getNothing() { return null; }
    }

    public static class Custom implements java.io.Serializable {
        private static final long serialVersionUID = 1;
        public final int inside = 5;
        public final Custom self = this;
    }

    public interface OddMBean {
        Date getWhen();
        AtomicLong getAtomic();
        BigInteger getBig();
        int getBroken() throws Exception;
        Optional<String> getOptional();
        Object getThread();
        Custom getCustom();
        Mode getEnum();
        char getLetter();
        Number getShort();
        void setWriteOnly(int value);
        String getUnicode();
    }

    public static class Odd implements OddMBean {
        public Date getWhen() { return new Date(1500L); }
        public AtomicLong getAtomic() { return new AtomicLong(99); }
        public BigInteger getBig() { return new BigInteger("123456789012345678901234567890"); }
        public int getBroken() throws Exception { throw new IllegalStateException("broken on purpose"); }
        public Optional<String> getOptional() { return Optional.of("x"); }
        public Object getThread() { return Thread.currentThread(); }
        public Custom getCustom() { return new Custom(); }
        public Mode getEnum() { return Mode.FAST; }
        public char getLetter() { return 'x'; }
        public Number getShort() { return (short) -3; }
        public void setWriteOnly(int value) { }
        public String getUnicode() { return "\u0000 \u00e9 \ud83d\ude00"; }
    }

    public interface FiveMBean {
        long getCount();
        long getBytes();
        double getRate();
        int getActive();
        long getErrors();
    }

    public static class Five implements FiveMBean {
        private final long seed;
        public Five(long seed) { this.seed = seed; }
        public long getCount() { return seed * 1000; }
        public long getBytes() { return seed * 1000003; }
        public double getRate() { return seed / 7.0; }
        public int getActive() { return (int) (seed % 17); }
        public long getErrors() { return 0; }
    }

    public interface HangMBean {
        int getValue() throws InterruptedException;
    }

    public static class Hang implements HangMBean {
        public int getValue() throws InterruptedException {
            Thread.sleep(600_000);
            return 1;
        }
    }

    public interface OneMBean {
        int getFirst();
        int getSecond();
    }

    public interface TwoMBean {
        int getFirst();
        int getThird();
    }

    public interface UnlikeMBean {
        int getFirst();
    }

    /** Which of its numbers a bean of it has depends on the interface that it is registered with. */
    public static class Unlike implements OneMBean, TwoMBean, UnlikeMBean {
        public int getFirst() { return 1; }
        public int getSecond() { return 2; }
        public int getThird() { return 3; }
    }

    static <T> void unlike(MBeanServer server, String kind, Class<T> of) throws Exception {
        for (int i = 0; i < 20; i++) {
            Object bean = of == null ? new Unlike() : new StandardMBean(of.cast(new Unlike()), of);
            server.registerMBean(bean, new ObjectName("unlike:kind=" + kind + ",number=" + i));
        }
    }

    static TabularData table() throws Exception {
        String[] items = {"host", "port", "value", "errors"};
        OpenType<?>[] types = {SimpleType.STRING, SimpleType.INTEGER, SimpleType.LONG, SimpleType.LONG};
        CompositeType row = new CompositeType("row", "one peer", items, items, types);
        TabularDataSupport data =
            new TabularDataSupport(new TabularType("table", "peers", row, new String[] {"host", "port"}));
        data.put(new CompositeDataSupport(row, items, new Object[] {"h1", 1, 10L, 0L}));
        data.put(new CompositeDataSupport(row, items, new Object[] {"h2", 2, 20L, 3L}));
        return data;
    }

    public static class Table implements DynamicMBean {
        public Object getAttribute(String name) throws AttributeNotFoundException, MBeanException {
            if (!name.equals("Peers")) throw new AttributeNotFoundException(name);
            try { return table(); } catch (Exception e) { throw new MBeanException(e); }
        }
        public void setAttribute(Attribute attribute) { }
        public AttributeList getAttributes(String[] names) {
            AttributeList list = new AttributeList();
            for (String name : names) {
                try { list.add(new Attribute(name, getAttribute(name))); } catch (Exception e) { }
            }
            return list;
        }
        public AttributeList setAttributes(AttributeList attributes) { return attributes; }
        public Object invoke(String name, Object[] params, String[] signature) { return null; }
        public MBeanInfo getMBeanInfo() {
            MBeanAttributeInfo peers =
                new MBeanAttributeInfo("Peers", "javax.management.openmbean.TabularData", "All peers", true, false, false);
            return new MBeanInfo("Table", "A table", new MBeanAttributeInfo[] {peers}, null, null, null);
        }
    }

    public static void main(String[] arguments) throws Exception {
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        server.registerMBean(new Shapes(), new ObjectName("fixture:type=Shapes,name=plain"));
        server.registerMBean(new Table(), new ObjectName("fixture:type=Table"));
        int beans = 0;
        boolean odd = true;
        boolean churn = false;
        for (int i = 0; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "beans": beans = Integer.parseInt(arguments[++i]); break;
                // Without values that cannot be serialized, which break connections.
                case "even": odd = false; break;
                case "churn": churn = true; break;
                case "registry":
                    java.rmi.registry.LocateRegistry.createRegistry(Integer.parseInt(arguments[++i]));
                    break;
                case "unlike":
                    unlike(server, "one", OneMBean.class);
                    unlike(server, "two", TwoMBean.class);
                    break;
                case "little": unlike(server, "little", null); break;
                case "hang": server.registerMBean(new Hang(), new ObjectName("fixture:type=Hang")); break;
                default: throw new IllegalArgumentException(arguments[i]);
            }
        }
        if (odd) {
            server.registerMBean(new Odd(), new ObjectName("fixture:type=Odd,name=\"quoted, \\\"x\\\"=1\""));
        }
        for (int i = 0; i < beans; i++) {
            server.registerMBean(new Five(i), new ObjectName("bench.app:type=Queue,name=queue-" + i));
        }
        System.out.println("ready");
        System.out.flush();
        for (long turn = 0; ; turn++) {
            if (churn) {
                ObjectName name = new ObjectName("churn:type=Bean,name=b" + turn % 50);
                if (server.isRegistered(name)) server.unregisterMBean(name);
                else server.registerMBean(new Five(turn), name);
                Thread.sleep(1);
            } else {
                Thread.sleep(1000);
            }
        }
    }
}
