import java.io.*;
import java.math.*;
import java.util.*;
import javax.management.*;

/** Writes the serialization streams of tests/fixtures: java -cp classes Streams directory */
public class Streams {
    public static void main(String[] arguments) throws Exception {
        AttributeList list = new AttributeList();
        list.add(new Attribute("Table", Fixture.table()));
        list.add(new Attribute("Big", new BigInteger("-123456789012345678901234567890")));
        list.add(new Attribute("Decimal", new BigDecimal("1.5E-9")));
        list.add(new Attribute("Date", new Date(1500)));
        list.add(new Attribute("Enum", Fixture.Mode.FAST));
        list.add(new Attribute("Name", new ObjectName("d:b=1,a=\"x,y\"")));
        list.add(new Attribute("Array", new int[] {1, 2, 3}));
        list.add(new Attribute("Strings", new String[] {"a", "b", "a"}));
        list.add(new Attribute("Map", new LinkedHashMap<>(Collections.singletonMap("k", 1L))));
        list.add(new Attribute("Class", String.class));
        list.add(new Attribute("Cause", new IllegalStateException("outer", new IOException("inner"))));
        list.add(new Attribute("Custom", new Fixture.Custom()));
        try (ObjectOutputStream out =
                new ObjectOutputStream(new FileOutputStream(new File(arguments[0], "attributes.ser")))) {
            out.writeObject(list);
        }
    }
}
