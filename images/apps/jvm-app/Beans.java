import java.lang.management.ManagementFactory;
import java.util.Map;
import java.util.TreeMap;
import javax.management.Attribute;
import javax.management.AttributeList;
import javax.management.DynamicMBean;
import javax.management.MBeanAttributeInfo;
import javax.management.MBeanInfo;
import javax.management.ObjectName;

/**
 * A stand-in for a Java server that cannot be had here: beans with the names and attributes that it is known for.
 * Each argument is one attribute: {@code object name|attribute|number}.
 */
public final class Beans implements DynamicMBean {
    private final Map<String, Number> numbers = new TreeMap<>();

    public static void main(String[] arguments) throws Exception {
        Map<String, Beans> beans = new TreeMap<>();
        for (String argument : arguments) {
            String[] parts = argument.split("\\|");
            Number number = parts[2].contains(".") ? (Number) Double.valueOf(parts[2]) : (Number) Long.valueOf(parts[2]);
            beans.computeIfAbsent(parts[0], name -> new Beans()).numbers.put(parts[1], number);
        }
        for (Map.Entry<String, Beans> bean : beans.entrySet()) {
            ManagementFactory.getPlatformMBeanServer().registerMBean(bean.getValue(), new ObjectName(bean.getKey()));
        }
        Thread.currentThread().join();
    }

    @Override
    public Object getAttribute(String name) {
        return numbers.get(name);
    }

    @Override
    public AttributeList getAttributes(String[] names) {
        AttributeList found = new AttributeList();
        for (String name : names) {
            found.add(new Attribute(name, numbers.get(name)));
        }
        return found;
    }

    @Override
    public MBeanInfo getMBeanInfo() {
        MBeanAttributeInfo[] attributes = numbers.keySet().stream()
            .map(name -> new MBeanAttributeInfo(name, "java.lang.Object", "a number", true, false, false))
            .toArray(MBeanAttributeInfo[]::new);
        return new MBeanInfo("Beans", "a stand-in", attributes, null, null, null);
    }

    @Override
    public void setAttribute(Attribute attribute) {
        throw new UnsupportedOperationException();
    }

    @Override
    public AttributeList setAttributes(AttributeList attributes) {
        throw new UnsupportedOperationException();
    }

    @Override
    public Object invoke(String action, Object[] parameters, String[] signature) {
        throw new UnsupportedOperationException();
    }
}
