import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.management.Attribute;
import javax.management.AttributeList;
import javax.management.DynamicMBean;
import javax.management.MBeanAttributeInfo;
import javax.management.MBeanInfo;
import javax.management.ObjectName;

/**
 * Beans of any names. Arguments: {@code object-name attribute=number...}, an object name begins the next bean.
 * Whole numbers are longs, others doubles, and what is no number is a text.
 */
public class Named implements DynamicMBean {
    private final Map<String, Object> values = new LinkedHashMap<>();

    public static void main(String[] arguments) throws Exception {
        Named bean = null;
        for (String argument : arguments) {
            int colon = argument.indexOf(':');
            int equals = argument.indexOf('=');
            if (colon >= 0 && colon < equals) {
                bean = new Named();
                ManagementFactory.getPlatformMBeanServer().registerMBean(bean, new ObjectName(argument));
            } else {
                bean.values.put(argument.substring(0, equals), value(argument.substring(equals + 1)));
            }
        }
        System.out.println("ready");
        Thread.sleep(Long.MAX_VALUE);
    }

    private static Object value(String text) {
        try {
            if (text.contains(".")) {
                return Double.valueOf(text);
            }
            return Long.valueOf(text);
        } catch (NumberFormatException notANumber) {
            return text;
        }
    }

    public Object getAttribute(String name) {
        return values.get(name);
    }

    public AttributeList getAttributes(String[] names) {
        AttributeList list = new AttributeList();
        for (String name : names) {
            if (values.containsKey(name)) {
                list.add(new Attribute(name, values.get(name)));
            }
        }
        return list;
    }

    public MBeanInfo getMBeanInfo() {
        List<MBeanAttributeInfo> infos = new ArrayList<>();
        // As Kafka and Cassandra declare them.
        for (String name : values.keySet()) {
            infos.add(new MBeanAttributeInfo(name, "java.lang.Object", "", true, false, false));
        }
        return new MBeanInfo("Named", "", infos.toArray(new MBeanAttributeInfo[0]), null, null, null);
    }

    public void setAttribute(Attribute attribute) { }

    public AttributeList setAttributes(AttributeList attributes) {
        return new AttributeList();
    }

    public Object invoke(String action, Object[] parameters, String[] signature) {
        return null;
    }
}
